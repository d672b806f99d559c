// What a stored model answers unless its format knows better, and the model that one describes.
#include "stored/stored_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/sha256.h"
#include "model/float_types.h"
#include "phiq/text.h"

namespace phiq {
namespace {

class NoFiles final : public SideFiles {
 public:
  std::filesystem::path PathOf(std::string_view name) const override { return name; }
  std::optional<std::string> ReadFile(std::string_view, std::uint64_t) const override {
    return std::nullopt;
  }
  std::vector<std::string> Names() const override { return {}; }
  std::uint64_t SizeBytes(std::string_view) const override { return 0; }
};

// The floats that a weight is worth planning from: its own, or float32 of what codes decode to.
DType FloatsOf(const Encoding& encoding) {
  const auto* type = std::get_if<GgmlType>(&encoding);
  const std::optional<FloatType> floats = type == nullptr ? std::nullopt : FloatTypeOf(*type);
  return DTypeOf(floats.value_or(FloatType::kF32));
}

}  // namespace

const SideFiles& NoSideFiles() noexcept {
  static const NoFiles none;
  return none;
}

const SideFiles& StoredModel::side_files() const noexcept { return NoSideFiles(); }

void StoredModel::ReadRawRows(std::size_t piece, std::uint64_t, std::uint64_t,
                              std::span<std::byte>) const {
  throw Error(ErrorCode::kInternal, "a piece without raw rows")
      .In(path_)
      .Tensor(pieces()[piece].name);
}

Model ModelOf(const StoredModel& stored, const WeightIndex& weights, const WarningFn& warn) {
  Model model;
  model.name = stored.name();
  model.repository_id = stored.repository_id();
  model.config = stored.config();
  for (const WeightInfo& weight : WeightsOf(model.config)) {
    if (weights.StoredAs(weight.id) != weight.id) continue;  // a tied head
    ModelTensor tensor;
    tensor.role = weight.id.role;
    tensor.layer = weight.id.layer;
    tensor.name = weight.name;
    tensor.shape = DimsOf(weight);
    tensor.dtype = FloatsOf(weights.PieceOf(weight.id, 0).encoding);
    model.tensors.push_back(std::move(tensor));
  }
  model.tokenizer = stored.ReadTokenizer(warn);
  return model;
}

double WeightTotals::bits_per_weight() const noexcept {
  return n_weights == 0 ? 0
                        : 8.0 * static_cast<double>(size_bytes) / static_cast<double>(n_weights);
}

WeightTotals TotalsOf(std::span<const StoredPiece> pieces) {
  WeightTotals totals;
  std::map<std::string, std::uint64_t> weights_of;
  for (const StoredPiece& piece : pieces) {
    if (piece.holds != Holds::kWeight) continue;
    const std::uint64_t n = piece.n_rows * piece.row_elements;
    totals.n_weights += n;
    totals.size_bytes += piece.size_bytes;
    weights_of[piece.type] += n;
  }
  std::vector<std::pair<std::uint64_t, std::string>> types;
  for (const auto& [type, n] : weights_of) types.emplace_back(n, type);
  std::ranges::stable_sort(types, [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string_view> names;
  for (const auto& [n, type] : types) names.push_back(type);
  totals.types = fmt::format("{}", fmt::join(names, ", "));
  return totals;
}

void AddConfig(const ModelConfig& config, About& about) {
  const auto add = [&](std::string key, auto value) {
    about.metadata.emplace_back(std::move(key), fmt::format("{}", value));
  };
  add("architecture", config.architecture);
  add("vocab_size", config.vocab_size);
  add("hidden_size", config.hidden_size);
  add("intermediate_size", config.intermediate_size);
  add("n_layers", config.n_layers);
  add("n_heads", config.n_heads);
  add("n_kv_heads", config.n_kv_heads);
  add("head_dim", config.head_dim);
  if (config.n_experts > 0) {
    add("n_experts", config.n_experts);
    add("n_experts_per_token", config.n_experts_per_token);
  }
  add("rope_dim", config.rope_dim);
  add("rope_theta", config.rope_theta);
  add("rms_norm_eps", config.rms_norm_eps);
  add("max_position_embeddings", config.max_position_embeddings);
  add("original_max_position_embeddings", config.original_max_position_embeddings);
  add("sliding_window", config.sliding_window);
  add("tie_word_embeddings", config.tie_word_embeddings);
  add("rope_scaling", config.long_factor.empty() ? "none" : "longrope");
}

void AddTokenizer(const Tokenizer& tokenizer, About& about) {
  about.metadata.emplace_back(
      "tokenizer", fmt::format("{}, {} tokens, {} added",
                               tokenizer.kind == TokenizerKind::kSentencePiece ? "SentencePiece BPE"
                                                                               : "byte-level BPE",
                               std::max(tokenizer.pieces.size(), tokenizer.vocab.size()),
                               tokenizer.added_tokens.size()));
  NoteChatTemplate(tokenizer.chat_template, about);
}

void NoteChatTemplate(const std::string& chat_template, About& about) {
  if (chat_template.empty()) {
    about.notes.emplace_back("no chat template");
  } else if (!IsKnownChatTemplate(chat_template)) {
    about.notes.push_back(fmt::format(
        "the chat template is not a known template of Phi (SHA-256 {})", Sha256Hex(chat_template)));
  }
}

}  // namespace phiq
