// Gives every tensor of a checkpoint its role by the table of its architecture, or stops and names
// it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <unordered_set>

#include "base/endian.h"
#include "base/half.h"
#include "model/weights.h"
#include "phiq/model.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// As a checkpoint has it: rows first; norms have one dimension.
std::vector<std::uint64_t> DimsOf(const WeightInfo& weight) {
  if (IsNorm(weight.id.role)) return {weight.shape.row_elements};
  return {weight.shape.n_rows, weight.shape.row_elements};
}

bool IsWeightType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

void CheckTensor(const SourceTensor& found, const WeightInfo& expected,
                 const Checkpoint& checkpoint) {
  const std::string shard = checkpoint.shards()[found.shard].string();
  if (!IsWeightType(found.dtype)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("dtype {} cannot be used for a weight", DTypeName(found.dtype)))
        .In(shard)
        .Tensor(found.name)
        .Hint("usable: F32, F16, BF16");
  }
  const std::vector<std::uint64_t> dims = DimsOf(expected);
  if (found.shape != dims) {
    throw Error(ErrorCode::kBadData,
                fmt::format("shape [{}], expected shape [{}]", fmt::join(found.shape, ", "),
                            fmt::join(dims, ", ")))
        .In(shard)
        .Tensor(found.name)
        .Hint(fmt::format("config.json: {}", expected.keys));
  }
}

// The first five of some names and how many there are.
std::string NameList(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 5); ++i) {
    text += fmt::format("{}'{}'", i == 0 ? "" : ", ", Escape(names[i]));
  }
  return names.size() > 5 ? fmt::format("{}, ... ({} in all)", text, names.size()) : text;
}

void RefuseMissing(const std::vector<std::string>& missing, const ModelConfig& config,
                   const CheckpointFolder& folder) {
  if (missing.empty()) return;
  throw Error(ErrorCode::kBadData,
              fmt::format("missing tensor{} {}", missing.size() == 1 ? "" : "s", NameList(missing)))
      .In(folder.path().string())
      .Hint(fmt::format("config.json: num_hidden_layers {}, tie_word_embeddings {}",
                        config.n_layers, config.tie_word_embeddings));
}

bool IsIgnored(const std::string& name, const DescribeOptions& options) {
  // Older exports carry the rotary frequencies, which follow from the configuration.
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  return std::ranges::any_of(options.ignore_extra, [&](const std::string& glob) {
    return fnmatch(glob.c_str(), name.c_str(), 0) == 0;
  });
}

void RefuseExtra(const Checkpoint& checkpoint, const std::vector<WeightInfo>& expected,
                 const DescribeOptions& options, const ModelConfig& config,
                 const CheckpointFolder& folder) {
  std::unordered_set<std::string_view> known;
  for (const WeightInfo& weight : expected) known.insert(weight.name);
  std::vector<std::string> extra;
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    if (!known.contains(tensor.name) && !IsIgnored(tensor.name, options))
      extra.push_back(tensor.name);
  }
  if (extra.empty()) return;
  throw Error(ErrorCode::kBadData,
              fmt::format("{} tensor{} without a role in {} with {} layers: {}", extra.size(),
                          extra.size() == 1 ? "" : "s", config.architecture, config.n_layers,
                          NameList(extra)))
      .In(folder.path().string())
      .Hint("--ignore-extra GLOB leaves them out");
}

float LoadFloat(DType dtype, std::span<const std::byte> bytes, std::size_t i) {
  switch (dtype) {
    case DType::kF16:
      return Fp16ToFloat(LoadLe<std::uint16_t>(bytes, 2 * i));
    case DType::kBF16:
      return Bf16ToFloat(LoadLe<std::uint16_t>(bytes, 2 * i));
    default:
      return LoadLe<float>(bytes, 4 * i);
  }
}

// A tied model may carry its head all the same, if it says the same as the embedding.
void CheckTiedHead(const Checkpoint& checkpoint, const SourceTensor& embedding,
                   const SourceTensor& head) {
  constexpr std::uint64_t kChunk = 1 << 18;  // elements
  const std::uint64_t embedding_bytes = DTypeBits(embedding.dtype) / 8;
  const std::uint64_t head_bytes = DTypeBits(head.dtype) / 8;
  std::vector<std::byte> a(kChunk * embedding_bytes);
  std::vector<std::byte> b(kChunk * head_bytes);
  for (std::uint64_t start = 0; start < head.n_elements(); start += kChunk) {
    const std::size_t n = std::min(kChunk, head.n_elements() - start);
    const std::span<std::byte> x = std::span(a).first(n * embedding_bytes);
    const std::span<std::byte> y = std::span(b).first(n * head_bytes);
    checkpoint.Read(embedding, start * embedding_bytes, x);
    checkpoint.Read(head, start * head_bytes, y);
    if (embedding.dtype == head.dtype && std::ranges::equal(x, y)) continue;
    for (std::size_t i = 0; i < n; ++i) {
      const float left = LoadFloat(embedding.dtype, x, i);
      const float right = LoadFloat(head.dtype, y, i);
      if (left == right || (std::isnan(left) && std::isnan(right))) continue;
      throw Error(
          ErrorCode::kBadData,
          fmt::format("element {} is {}, the embedding has {}, but tie_word_embeddings is true",
                      start + i, right, left))
          .In(checkpoint.shards()[head.shard].string())
          .Tensor(head.name)
          .Hint("set tie_word_embeddings to false if the model has a head of its own");
    }
  }
}

}  // namespace

std::string_view RoleName(TensorRole role) noexcept {
  switch (role) {
    case TensorRole::kTokenEmbedding:
      return "token_embedding";
    case TensorRole::kOutputHead:
      return "output_head";
    case TensorRole::kOutputNorm:
      return "output_norm";
    case TensorRole::kAttentionNorm:
      return "attention_norm";
    case TensorRole::kAttentionQkv:
      return "attention_qkv";
    case TensorRole::kAttentionOutput:
      return "attention_output";
    case TensorRole::kMlpNorm:
      return "mlp_norm";
    case TensorRole::kMlpGateUp:
      return "mlp_gate_up";
    case TensorRole::kMlpDown:
      return "mlp_down";
  }
  return "";
}

bool IsNorm(TensorRole role) noexcept {
  return role == TensorRole::kOutputNorm || role == TensorRole::kAttentionNorm ||
         role == TensorRole::kMlpNorm;
}

std::uint64_t ModelTensor::n_elements() const noexcept {
  return std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
}

Model DescribeModel(const CheckpointFolder& folder, ModelConfig config,
                    const Checkpoint& checkpoint, const DescribeOptions& options,
                    const WarningFn& warn) {
  Model model;
  std::vector<std::string> missing;
  const std::vector<WeightInfo> expected = WeightsOf(config);
  const SourceTensor* tied_head = nullptr;
  for (const WeightInfo& weight : expected) {
    const bool is_tied_head =
        weight.id.role == TensorRole::kOutputHead && config.tie_word_embeddings;
    const SourceTensor* found = checkpoint.Find(weight.name);
    if (found == nullptr) {
      if (!is_tied_head) missing.push_back(weight.name);
      continue;
    }
    CheckTensor(*found, weight, checkpoint);
    if (is_tied_head) {
      tied_head = found;
      continue;
    }
    model.tensors.push_back(
        {weight.id.role, weight.id.layer, found->name, found->shape, found->dtype});
  }
  RefuseMissing(missing, config, folder);
  RefuseExtra(checkpoint, expected, options, config, folder);
  // From here on the weights are those that the configuration promises.
  if (tied_head != nullptr)
    CheckTiedHead(checkpoint, *checkpoint.Find(model.tensors.front().name), *tied_head);
  model.name = folder.model_name();
  model.repository_id = folder.repository_id();
  if (options.tokenizer) {
    model.tokenizer = ReadTokenizer(folder, config.vocab_size, config.bos_token_id,
                                    config.eos_token_id, config.pad_token_id, warn);
  }
  model.config = std::move(config);
  return model;
}

}  // namespace phiq
