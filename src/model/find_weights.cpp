// People's checkpoints hold the same model under other names, in parts, or in 8-bit floats. What is
// the same function is found here; what is not, stops and is named. Only headers are looked at.
#include "model/find_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "checkpoint/weight_files.h"
#include "model/side_file.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::string_view kMlxTool = "MLX";
constexpr std::string_view kWeightSuffix = ".weight";
constexpr std::string_view kConfigFileName = "config.json";

bool MatchesGlob(std::string_view pattern, const std::string& name) {
  return fnmatch(std::string(pattern).c_str(), name.c_str(), 0) == 0;
}

// "a.weight", "_scale" -> "a.weight_scale"; "a.weight", ".input_scale" -> "a.input_scale".
std::string Beside(std::string_view name, std::string_view end) {
  if (end.starts_with('.') && name.ends_with(kWeightSuffix))
    name.remove_suffix(kWeightSuffix.size());
  return std::string(name) + std::string(end);
}

// A part of an adapter of PEFT, left in the checkpoint of the model that it changes.
bool IsOfAdapter(const std::string& name) {
  return name.find(".lora_") != name.npos || name.find(".modules_to_save.") != name.npos;
}

// The first five of some names and how many there are.
std::string NameList(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 5); ++i)
    text += fmt::format("{}'{}'", i == 0 ? "" : ", ", Escape(names[i]));
  return names.size() > 5 ? fmt::format("{}, ... ({} in all)", text, names.size()) : text;
}

// What training puts around modules, in the middle of names too.
constexpr auto kWrappers = std::to_array<std::string_view>(
    {"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module."});

// Finds tensors by the names of the model's class, whatever stands before or within them in this
// checkpoint.
class TensorNames {
 public:
  TensorNames(const Checkpoint& checkpoint, const ModelConfig& config)
      : stem_(ArchitectureOf(config).stem), before_(stem_) {
    // What stands before every name is told by `before_`.
    const bool is_before_all = std::ranges::any_of(kWrappers, [&](std::string_view wrapper) {
      return std::ranges::all_of(checkpoint.tensors(), [&](const SourceTensor& tensor) {
        return tensor.name.starts_with(wrapper);
      });
    });
    for (const SourceTensor& tensor : checkpoint.tensors())
      tensors_.emplace(Unwrapped(tensor.name, is_before_all), &tensor);
    // A weight of which every such model has one, and hardly anything beside the model.
    const std::string known = CheckpointName(config, {TensorRole::kAttentionNorm, 0});
    if (tensors_.contains(known)) return;
    const std::string_view end = std::string_view(known).substr(stem_.size());
    std::vector<std::string_view> found;
    for (const auto& [key, tensor] : tensors_) {
      std::string_view name = key;
      if (!name.ends_with(end)) continue;
      name.remove_suffix(end.size());
      if (name.empty() || name.ends_with('.')) found.push_back(name);
    }
    if (found.size() == 1) before_ = found.front();
  }

  // nullptr: there is none.
  const SourceTensor* Find(const std::string& name) const {
    if (name.starts_with(stem_))
      return FindModule(std::string(before_) + name.substr(stem_.size()));
    // The head stands beside the model inside.
    for (const std::string_view before : {std::string_view(), outer(), before_}) {
      if (const SourceTensor* found = FindModule(std::string(before) + name)) return found;
    }
    return nullptr;
  }

  // What is to be said of the names, a line each.
  std::vector<std::string> Notes() const {
    std::vector<std::string> notes;
    if (!within_.empty()) {
      notes.push_back(
          fmt::format("names of tensors have '{}' within: read as if they did not", within_));
    }
    if (before_ == stem_) return notes;
    if (before_.empty()) {
      notes.push_back(
          fmt::format("the names of the tensors lack '{}': read as if they had it", stem_));
      return notes;
    }
    const bool is_outer = outer() != before_;
    notes.push_back(
        fmt::format("the names of the tensors begin with '{}'{}: read as if they did "
                    "not",
                    Escape(is_outer ? outer() : before_),
                    is_outer ? "" : fmt::format(" instead of '{}'", stem_)));
    return notes;
  }

 private:
  // The name without the wrappers that stand in it, or only in the middle of it.
  std::string Unwrapped(std::string_view name, bool in_the_middle) {
    std::string plain;
    while (!name.empty()) {
      const auto wrapper = std::ranges::find_if(kWrappers, [&](std::string_view w) {
        return (!in_the_middle || !plain.empty()) && name.starts_with(w);
      });
      if (wrapper != kWrappers.end()) {
        within_ = *wrapper;
        name.remove_prefix(wrapper->size());
        continue;
      }
      const std::size_t n = std::min(name.find('.'), name.size() - 1) + 1;
      plain += name.substr(0, n);
      name.remove_prefix(n);
    }
    return plain;
  }

  // What stands before the whole model.
  std::string_view outer() const {
    if (!before_.ends_with(stem_)) return before_;
    const std::string_view rest = before_.substr(0, before_.size() - stem_.size());
    return rest.empty() || rest.ends_with('.') ? rest : before_;
  }

  // Below an adapter's wrapper the weight is called "NAME.base_layer.weight".
  const SourceTensor* FindModule(const std::string& name) const {
    for (const std::string& key : {name, Beside(name, ".base_layer.weight")}) {
      if (const auto found = tensors_.find(key); found != tensors_.end()) return found->second;
    }
    return nullptr;
  }

  std::map<std::string, const SourceTensor*> tensors_;  // by their names without wrappers
  std::string_view within_;                             // one of the wrappers, where there are any
  std::string_view stem_;
  std::string_view before_;  // the names: what stands where the class has stem_
};

// Tools that pack weights, by what config.json or the tensors' names say.
struct Packer {
  std::string_view method;  // quant_method
  std::string_view tool;
  std::string_view ending;  // of the names of its tensors; "": none of its own
};
constexpr std::array kPackers = {
    Packer{"gptq", "GPTQ", ".qweight"},
    Packer{"awq", "AWQ", ".qweight"},
    Packer{"auto-round", "auto-round", ".qweight"},
    Packer{"bitsandbytes", "bitsandbytes", ".absmax"},
    Packer{"bitsandbytes", "bitsandbytes", ".SCB"},
    Packer{"compressed-tensors", "compressed-tensors", ".weight_packed"},
    Packer{"hqq", "HQQ", ".W_q"},
    Packer{"aqlm", "AQLM", ".codebooks"},
    Packer{"eetq", "EETQ", ".weight_scales"},
    Packer{"quanto", "quanto", "._data"},
    Packer{"mxfp4", "MXFP4", "_blocks"},
    Packer{"torchao", "torchao", ""},
    Packer{"quark", "Quark", ""},
    Packer{"bitnet", "BitNet", ""},
    Packer{"fp8", "FP8", ""},
    Packer{"fbgemm_fp8", "FBGEMM FP8", ""},
};

// What config.json says of how the weights were quantized.
class Quantization {
 public:
  explicit Quantization(const CheckpointFolder& folder) {
    const std::optional<Json> config =
        ReadJsonObject(folder, kConfigFileName, limits::kConfigBytes);
    if (!config) return;
    is_mlx_ = FindMember(*config, "quantization") != nullptr;
    const Json* const section = FindMember(*config, "quantization_config");
    if (section == nullptr) return;
    is_there_ = true;
    const std::string path = SidePath(folder, kConfigFileName);
    if (section->is_object()) {
      method_ = JsonString(*section, "quant_method", path).value_or("");
      if (const Json* size = FindMember(*section, "weight_block_size"); size != nullptr) {
        const bool is_pair = size->is_array() && size->size() == 2 &&
                             (*size)[0].is_number_unsigned() && (*size)[1].is_number_unsigned();
        if (!is_pair || (*size)[0] == 0U || (*size)[1] == 0U) {
          throw Error(ErrorCode::kBadData,
                      fmt::format("'weight_block_size' is {}, needs two whole numbers above 0",
                                  Show(*size)))
              .In(path);
        }
        block_ = {(*size)[0].get<std::uint64_t>(), (*size)[1].get<std::uint64_t>()};
      }
    }
  }

  bool is_there() const noexcept { return is_there_ || is_mlx_; }
  const std::string& method() const noexcept { return method_; }
  std::pair<std::uint64_t, std::uint64_t> block() const noexcept { return block_; }

  // Who packed the weights; "": nothing says that anybody did.
  std::string Tool(const Checkpoint& checkpoint) const {
    for (const Packer& packer : kPackers) {
      if (!method_.empty() && packer.method == method_) return std::string(packer.tool);
    }
    if (!method_.empty()) return fmt::format("'{}'", Escape(method_));
    if (is_mlx_) return std::string(kMlxTool);
    for (const SourceTensor& tensor : checkpoint.tensors()) {
      for (const Packer& packer : kPackers) {
        if (packer.ending.empty() || !tensor.name.ends_with(packer.ending)) continue;
        return std::string(packer.ending == ".qweight" ? "GPTQ or AWQ" : packer.tool);
      }
    }
    return is_there_ ? "another tool" : "";
  }

 private:
  bool is_there_ = false, is_mlx_ = false;
  std::string method_;
  std::pair<std::uint64_t, std::uint64_t> block_ = {128, 128};  // transformers' own default
};

bool IsFloat8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

bool IsWeightType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF64 || IsFloat8(dtype);
}

class Finder {
 public:
  Finder(const CheckpointFolder& folder, const ModelConfig& config, const Checkpoint& checkpoint,
         const std::vector<std::string>& ignore_extra)
      : folder_(folder),
        config_(config),
        checkpoint_(checkpoint),
        ignore_extra_(ignore_extra),
        names_(checkpoint, config),
        quantization_(folder),
        is_used_(checkpoint.tensors().size(), 0) {}

  std::vector<TensorRows> Find(const WarningFn& warn) {
    for (const WeightInfo& weight : WeightsOf(config_)) FindWeight(weight);
    RefuseMissing();
    RefuseUnscaled();
    RefuseExtra(warn);
    // From here on the weights are those that the configuration promises.
    for (const std::string& note : names_.Notes()) WarnOf(warn, note);
    for (const TensorRows& rows : rows_) {
      if (!rows.twin) continue;
      WarnOf(warn, fmt::format("'{}' is left out, as tie_word_embeddings is true; that it is the "
                               "embedding shows when that is read",
                               Escape(checkpoint_.tensors()[*rows.twin].name)));
    }
    if (n_float8_ > 0) {
      WarnOf(warn, fmt::format("{} tensor{} of 8-bit floats: what they lost before is lost",
                               n_float8_, n_float8_ == 1 ? "" : "s"));
    } else if (quantization_.is_there()) {
      Warn(warn, SidePath(folder_, kConfigFileName),
           fmt::format("quantization_config ({}) is left out: the weights are plain floats",
                       quantization_.Tool(checkpoint_)));
    }
    return std::move(rows_);
  }

 private:
  void WarnOf(const WarningFn& warn, std::string_view text) const {
    Warn(warn, folder_.path().string(), text);
  }

  std::size_t IndexOf(const SourceTensor& tensor) const {
    return static_cast<std::size_t>(&tensor - checkpoint_.tensors().data());
  }

  void FindWeight(const WeightInfo& weight) {
    const bool is_head = weight.id.role == TensorRole::kOutputHead;
    const bool is_tied = config_.tie_word_embeddings;
    if (const SourceTensor* whole = names_.Find(weight.name)) {
      if (is_head && is_tied) return AddTwin(weight, *whole);
      Add(weight, 0, weight.shape.n_rows, *whole);
      return;
    }
    if (is_head && is_tied) return;
    std::vector<const SourceTensor*> parts;
    for (const WeightPart& part : weight.parts) {
      if (const SourceTensor* found = names_.Find(part.name)) parts.push_back(found);
    }
    if (parts.empty() && weight.stack) {
      if (const SourceTensor* stack = names_.Find(weight.stack->name))
        return AddStack(weight, *stack);
    }
    if (parts.empty()) {
      // Where both are one tensor, either name may have been kept.
      const SourceTensor* head =
          weight.id.role == TensorRole::kTokenEmbedding && is_tied
              ? names_.Find(CheckpointName(config_, {TensorRole::kOutputHead}))
              : nullptr;
      if (head != nullptr) return Add(weight, 0, weight.shape.n_rows, *head);
      missing_.push_back(weight.name);
      return;
    }
    for (const WeightPart& part : weight.parts) {
      const SourceTensor* found = names_.Find(part.name);
      if (found == nullptr) {
        missing_.push_back(part.name);
      } else {
        Add(weight, part.first_row, part.n_rows, *found);
      }
    }
  }

  // The rows of each matrix, wherever it begins.
  void AddStack(const WeightInfo& weight, const SourceTensor& tensor) {
    const WeightStack& stack = *weight.stack;
    const std::uint64_t n_matrices = weight.shape.n_matrices;
    const std::uint64_t n_rows = weight.shape.n_rows / n_matrices;
    std::vector<std::uint64_t> shape = {stack.matrix_rows, weight.shape.row_elements};
    if (n_matrices > 1) shape.insert(shape.begin(), n_matrices);
    CheckTensor(weight, shape, tensor);
    if (IsFloat8(tensor.dtype)) {
      throw Error(ErrorCode::kUnsupported, "8-bit floats of several experts in one tensor")
          .In(checkpoint_.shards()[tensor.shard].string())
          .Tensor(tensor.name)
          .Hint("save the model with transformers, which writes a tensor for each expert");
    }
    is_used_[IndexOf(tensor)] = 1;
    for (std::uint64_t i = 0; i < n_matrices; ++i) {
      TensorRows rows;
      rows.weight = weight.id;
      rows.first_row = i * n_rows;
      rows.n_rows = n_rows;
      rows.row_elements = weight.shape.row_elements;
      rows.tensor = IndexOf(tensor);
      rows.tensor_row = i * stack.matrix_rows + stack.first_row;
      rows_.push_back(rows);
    }
  }

  void Add(const WeightInfo& weight, std::uint64_t first_row, std::uint64_t n_rows,
           const SourceTensor& tensor) {
    TensorRows rows;
    rows.weight = weight.id;
    rows.first_row = first_row;
    rows.n_rows = n_rows;
    rows.row_elements = weight.shape.row_elements;
    rows.tensor = IndexOf(tensor);
    Check(weight, n_rows, tensor);
    is_used_[rows.tensor] = 1;
    if (IsFloat8(tensor.dtype)) rows.scales = FindScales(tensor, n_rows, rows.row_elements);
    rows_.push_back(rows);
  }

  void AddTwin(const WeightInfo& weight, const SourceTensor& head) {
    Check(weight, weight.shape.n_rows, head);
    if (is_used_[IndexOf(head)] != 0) return;  // the embedding under the head's name
    is_used_[IndexOf(head)] = 1;
    const auto embedding = std::ranges::find_if(rows_, [](const TensorRows& rows) {
      return rows.weight.role == TensorRole::kTokenEmbedding;
    });
    if (embedding != rows_.end()) embedding->twin = IndexOf(head);
  }

  void Check(const WeightInfo& weight, std::uint64_t n_rows, const SourceTensor& found) const {
    std::vector<std::uint64_t> shape = {weight.shape.row_elements};
    if (!IsVector(weight.id.role)) shape.insert(shape.begin(), n_rows);
    CheckTensor(weight, shape, found);
  }

  void CheckTensor(const WeightInfo& weight, const std::vector<std::uint64_t>& shape,
                   const SourceTensor& found) const {
    const std::string shard = checkpoint_.shards()[found.shard].string();
    if (!IsWeightType(found.dtype)) {
      RefusePacked();
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("dtype {} cannot be used for a weight", DTypeName(found.dtype)))
          .In(shard)
          .Tensor(found.name)
          .Hint("usable: F32, F16, BF16, F64, F8_E4M3, F8_E5M2");
    }
    if (found.shape == shape) return;
    throw Error(ErrorCode::kBadData,
                fmt::format("shape [{}], expected shape [{}]", fmt::join(found.shape, ", "),
                            fmt::join(shape, ", ")))
        .In(shard)
        .Tensor(found.name)
        .Hint(fmt::format("config.json: {}", weight.keys));
  }

  // Of a block ("weight_scale_inv" of fine-grained FP8), of a row, or of all.
  std::optional<BlockScales> FindScales(const SourceTensor& tensor, std::uint64_t n_rows,
                                        std::uint64_t row_elements) {
    ++n_float8_;
    // What activations are rounded by is the business of a runtime that rounds them.
    for (const std::string_view end : {".input_scale", ".output_scale", ".activation_scale"}) {
      if (const SourceTensor* found = checkpoint_.Find(Beside(tensor.name, end)))
        is_used_[IndexOf(*found)] = 1;
    }
    const SourceTensor* const blocks = checkpoint_.Find(Beside(tensor.name, "_scale_inv"));
    const SourceTensor* const found =
        blocks != nullptr ? blocks : checkpoint_.Find(Beside(tensor.name, "_scale"));
    if (found == nullptr) {
      if (unscaled_ == nullptr) unscaled_ = &tensor;
      return std::nullopt;
    }
    has_scales_ = true;
    is_used_[IndexOf(*found)] = 1;
    const std::vector<std::uint64_t>& shape = found->shape;
    const auto [block_rows, block_columns] = quantization_.block();
    const std::uint64_t n_down = (n_rows + block_rows - 1) / block_rows;
    const std::uint64_t n_across = (row_elements + block_columns - 1) / block_columns;
    const std::uint64_t n = found->n_elements();
    const bool is_float =
        found->dtype == DType::kF32 || found->dtype == DType::kF16 || found->dtype == DType::kBF16;
    if (is_float && shape == std::vector<std::uint64_t>{n_down, n_across})
      return BlockScales{IndexOf(*found), block_rows, block_columns, n_across};
    if (is_float && n == n_rows && !shape.empty() && shape.front() == n_rows)
      return BlockScales{IndexOf(*found), 1, row_elements, 1};
    if (is_float && n == 1) return BlockScales{IndexOf(*found), n_rows, row_elements, 1};
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("scales of type {}, [{}]: needs floats, one for all, for each of {} "
                    "rows, or for each of {} x {} blocks",
                    DTypeName(found->dtype), fmt::join(shape, ", "), n_rows, n_down, n_across))
        .In(checkpoint_.shards()[found->shard].string())
        .Tensor(found->name);
  }

  void RefusePacked() const {
    const std::string tool = quantization_.Tool(checkpoint_);
    if (tool.empty()) return;
    const std::string& method = quantization_.method();
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("the weights are already quantized {} {}{}, and packed in its own way",
                    tool == kMlxTool ? "for" : "by", tool,
                    method.empty() ? "" : fmt::format(" (quant_method \"{}\")", Escape(method))))
        .In(quantization_.is_there() ? SidePath(folder_, kConfigFileName) : folder_.path().string())
        .Hint("convert the checkpoint they were made from, in bfloat16 or float16");
  }

  // Without any scales 8-bit floats are what they are; a scale that got lost makes another model.
  void RefuseUnscaled() const {
    if (unscaled_ == nullptr || !(has_scales_ || quantization_.is_there())) return;
    throw Error(ErrorCode::kBadData,
                fmt::format("8-bit floats without a scale, which {}",
                            has_scales_ ? "other weights have" : "quantization_config wants"))
        .In(checkpoint_.shards()[unscaled_->shard].string())
        .Tensor(unscaled_->name)
        .Hint("incomplete download? fetch the files again");
  }

  void RefuseMissing() const {
    if (missing_.empty()) return;
    RefusePacked();
    const std::string file = folder_.weights_file().value_or("");
    if (const std::uint32_t n_shards = CountShards(file); n_shards > 1) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("is one of {} shards, and {} missing in it", n_shards,
                      missing_.size() == 1 ? "a tensor is"
                                           : fmt::format("{} tensors are", missing_.size())))
          .In(SidePath(folder_, file))
          .Hint(fmt::format("give the folder, {}", Escape(folder_.path().string())));
    }
    throw Error(
        ErrorCode::kBadData,
        fmt::format("missing tensor{} {}", missing_.size() == 1 ? "" : "s", NameList(missing_)))
        .In(folder_.path().string())
        .Hint(fmt::format("config.json: num_hidden_layers {}, tie_word_embeddings {}",
                          config_.n_layers, config_.tie_word_embeddings));
  }

  std::span<const LeftOut> ClassLeavesOut() const {
    for (const ModelClass& model_class : ArchitectureOf(config_).classes) {
      if (model_class.name == config_.class_name) return model_class.left_out;
    }
    return {};
  }

  bool IsIgnored(const std::string& name) const {
    // Older exports carry rotary frequencies or tables, which follow from the configuration.
    if (name.find("rotary_emb.") != name.npos) return true;
    // What a runtime rounds its cache by, also where the weights themselves are plain.
    if ((n_float8_ > 0 || quantization_.is_there()) &&
        (name.ends_with(".k_scale") || name.ends_with(".v_scale")))
      return true;
    return std::ranges::any_of(ignore_extra_,
                               [&](const std::string& glob) { return MatchesGlob(glob, name); });
  }

  void RefuseExtra(const WarningFn& warn) const {
    std::vector<std::string> extra;
    std::map<std::string_view, std::size_t> left_out;
    for (std::size_t i = 0; i < is_used_.size(); ++i) {
      const std::string& name = checkpoint_.tensors()[i].name;
      const bool is_empty = checkpoint_.tensors()[i].n_elements() == 0;
      if (is_used_[i] != 0 || is_empty || IsIgnored(name)) continue;
      const std::span<const LeftOut> kinds = ClassLeavesOut();
      const auto kind = std::ranges::find_if(
          kinds, [&](const LeftOut& k) { return MatchesGlob(k.pattern, name); });
      if (kind == kinds.end()) {
        extra.push_back(name);
      } else {
        ++left_out[kind->what];
      }
    }
    if (!extra.empty()) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("{} tensor{} without a role in {} with {} layers: {}", extra.size(),
                              extra.size() == 1 ? "" : "s", config_.architecture, config_.n_layers,
                              NameList(extra)))
          .In(folder_.path().string())
          .Hint(std::ranges::any_of(extra, IsOfAdapter)
                    ? "an adapter that is not merged: merge it with PEFT (merge_and_unload, "
                      "save_pretrained) and convert the result"
                    : "--ignore-extra GLOB leaves them out");
    }
    for (const auto& [what, n] : left_out) {
      WarnOf(warn, fmt::format("{} ({} tensor{}): left out, the text model alone is read", what, n,
                               n == 1 ? "" : "s"));
    }
  }

  const CheckpointFolder& folder_;
  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  const std::vector<std::string>& ignore_extra_;
  const TensorNames names_;
  const Quantization quantization_;
  std::vector<char> is_used_;  // by tensor
  std::vector<std::string> missing_;
  std::vector<TensorRows> rows_;
  std::size_t n_float8_ = 0;
  const SourceTensor* unscaled_ = nullptr;  // the first of them that has no scale
  bool has_scales_ = false;                 // others do
};

}  // namespace

std::vector<TensorRows> FindWeights(const CheckpointFolder& folder, const ModelConfig& config,
                                    const Checkpoint& checkpoint,
                                    const std::vector<std::string>& ignore_extra,
                                    const WarningFn& warn) {
  return Finder(folder, config, checkpoint, ignore_extra).Find(warn);
}

}  // namespace phiq
