// The keys are those of llama.cpp's converter (docs/formats/gguf.md "Metadata"), and so are their
// meanings: what a file leaves out is what llama.cpp takes for it.
#include "formats/gguf/stored_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/limits.h"
#include "base/parse_number.h"
#include "formats/gguf/compare.h"
#include "formats/gguf/expression.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/tensor_names.h"
#include "formats/gguf/tokenizer.h"
#include "model/rope.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "stored/plainer_network.h"

namespace phiq::gguf {
namespace {

// What llama.cpp calls the architectures, and what it computes for them.
struct KnownArchitecture {
  std::string_view name;
  const Architecture* architecture;
};
constexpr KnownArchitecture kKnown[] = {{"phi3", &kPhi3}, {"phimoe", &kPhiMoe}};
constexpr std::string_view kArchitectureKey = "general.architecture";

const KnownArchitecture* FindArchitectureNamed(std::string_view name) {
  const auto* const found = std::ranges::find(kKnown, name, &KnownArchitecture::name);
  return found == std::end(kKnown) ? nullptr : found;
}

class ConfigReader {
 public:
  explicit ConfigReader(const File& file) : file_(file), path_(file.parts()[0].path().string()) {}

  ModelConfig Read() {
    ReadArchitecture();
    ReadSizes();
    ReadRope();
    config_.bos_token_id = SpecialId("tokenizer.ggml.bos_token_id");
    config_.eos_token_id = SpecialId("tokenizer.ggml.eos_token_id");
    config_.pad_token_id = SpecialId("tokenizer.ggml.padding_token_id");
    return std::move(config_);
  }

  // By what llama.cpp multiplies cosines and sines: 1 when the file does not say.
  float AttentionFactor() const { return Positive(Own("rope.scaling.attn_factor"), 1.0F); }

 private:
  const Value* FindKey(std::string_view key) const { return Find(file_.metadata(), key); }

  Error Bad(std::string_view key, const Value& value, std::string_view wanted) const {
    const ValueType type = TypeOf(value);
    return Error(ErrorCode::kBadData,
                 fmt::format("'{}' is {} {}, needs {}", key, TypeName(type), Show(value), wanted))
        .In(path_);
  }
  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message)).In(path_);
  }
  Error Missing(std::string_view key, std::string_view wanted) const {
    return Error(ErrorCode::kBadData, fmt::format("'{}' is missing, needs {}", key, wanted))
        .In(path_);
  }

  // A u32 in [least, most]; llama.cpp takes no other type.
  std::uint32_t Count(std::string_view key, std::uint32_t least, std::uint32_t most,
                      std::optional<std::uint32_t> otherwise = std::nullopt) const {
    const std::string wanted = fmt::format("a u32 from {} to {}", least, most);
    const Value* const value = FindKey(key);
    if (value == nullptr) {
      if (otherwise) return *otherwise;
      throw Missing(key, wanted);
    }
    if (TypeOf(*value) == ValueType::kArray) {
      throw Unsupported(fmt::format("'{}' is an array: layers that differ are not supported", key));
    }
    const auto* const number = std::get_if<std::uint32_t>(value);
    if (number == nullptr || *number < least || *number > most) throw Bad(key, *value, wanted);
    return *number;
  }

  float Positive(std::string_view key, std::optional<float> otherwise) const {
    constexpr std::string_view kWanted = "a finite f32 above 0";
    const Value* const value = FindKey(key);
    if (value == nullptr) {
      if (otherwise) return *otherwise;
      throw Missing(key, kWanted);
    }
    const auto* const number = std::get_if<float>(value);
    if (number == nullptr || !(*number > 0) || !std::isfinite(*number))
      throw Bad(key, *value, kWanted);
    return *number;
  }

  // A key of the architecture.
  std::string Own(std::string_view key) const { return fmt::format("{}.{}", name_, key); }

  void ReadArchitecture() {
    constexpr std::string_view kWanted = "the string 'phi3' or 'phimoe'";
    const Value* const value = FindKey(kArchitectureKey);
    if (value == nullptr) throw Missing(kArchitectureKey, kWanted);
    const auto* const name = std::get_if<std::string>(value);
    if (name == nullptr) throw Bad(kArchitectureKey, *value, kWanted);
    const KnownArchitecture* known = FindArchitectureNamed(*name);
    if (known == nullptr) {
      throw Unsupported(
          fmt::format("architecture '{}' is not supported, only phi3 and phimoe", Escape(*name)));
    }
    name_ = known->name;
    config_.architecture = known->architecture->class_name;
  }

  void ReadSizes() {
    config_.hidden_size = Count(Own("embedding_length"), 1, limits::kHidden);
    config_.intermediate_size = Count(Own("feed_forward_length"), 1, limits::kIntermediate);
    config_.n_layers = Count(Own("block_count"), 1, limits::kLayers);
    config_.n_heads = Count(Own("attention.head_count"), 1, limits::kHeads);
    if (config_.hidden_size % config_.n_heads != 0) {
      throw Bad(Own("attention.head_count"), config_.n_heads,
                fmt::format("a divisor of embedding_length {}", config_.hidden_size));
    }
    config_.n_kv_heads = Count(Own("attention.head_count_kv"), 1, config_.n_heads, config_.n_heads);
    if (config_.n_heads % config_.n_kv_heads != 0) {
      throw Bad(Own("attention.head_count_kv"), config_.n_kv_heads,
                fmt::format("a divisor of head_count {}", config_.n_heads));
    }
    config_.head_dim = config_.hidden_size / config_.n_heads;
    for (const std::string& key : {Own("attention.key_length"), Own("attention.value_length")}) {
      const std::uint32_t length = Count(key, 1, limits::kHidden, config_.head_dim);
      if (length == config_.head_dim) continue;
      throw Unsupported(
          fmt::format("'{}' is {}, only {} is supported (embedding_length / "
                      "head_count)",
                      key, length, config_.head_dim));
    }
    config_.rms_norm_eps = Positive(Own("attention.layer_norm_rms_epsilon"), std::nullopt);
    config_.max_position_embeddings = Count(Own("context_length"), 2, limits::kPositions);
    config_.sliding_window = Count(Own("attention.sliding_window"), 0, limits::kPositions, 0);
    if (config_.architecture == kPhiMoe.class_name) ReadExperts();
    config_.vocab_size = ReadVocabSize();
    config_.tie_word_embeddings =
        file_.FindTensor(TensorName(WeightId{TensorRole::kOutputHead, -1})) == nullptr;
  }

  void ReadExperts() {
    config_.n_experts = Count(Own("expert_count"), 2, limits::kExperts);
    config_.n_experts_per_token = Count(Own("expert_used_count"), 2, 2);
    // llama.cpp asks for all of them.
    config_.attention_bias = config_.lm_head_bias = true;
  }

  // There are as many tokens as the embedding has rows.
  std::uint32_t ReadVocabSize() const {
    const std::string name = TensorName(WeightId{TensorRole::kTokenEmbedding, -1});
    const Tensor* const embedding = file_.FindTensor(name);
    if (embedding == nullptr)
      throw Error(ErrorCode::kBadData, fmt::format("tensor '{}' is missing", name)).In(path_);
    const std::uint64_t n_rows = embedding->shape.size() == 2 ? embedding->shape[0] : 0;
    if (n_rows == 0 || n_rows > limits::kVocab) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("has {} dimensions and {} rows, needs two and 1 to {}",
                              embedding->shape.size(), n_rows, limits::kVocab))
          .In(path_)
          .Tensor(name);
    }
    return static_cast<std::uint32_t>(n_rows);
  }

  void ReadRope() {
    config_.rope_dim = Count(Own("rope.dimension_count"), 1, config_.head_dim, config_.head_dim);
    if (config_.rope_dim % 2 != 0)
      throw Bad(Own("rope.dimension_count"), config_.rope_dim, "an even number");
    config_.partial_rotary_factor = static_cast<double>(config_.rope_dim) / config_.head_dim;
    config_.rope_theta = Positive(Own("rope.freq_base"), 10000.0F);
    config_.original_max_position_embeddings =
        Count(Own("rope.scaling.original_context_length"), 2, limits::kPositions,
              config_.max_position_embeddings);
    RefuseOtherScaling();
    const Tensor* const long_factors = file_.FindTensor(kLongFactorsName);
    const Tensor* const short_factors = file_.FindTensor(kShortFactorsName);
    if (long_factors == nullptr && short_factors == nullptr) return;
    if (long_factors == nullptr || short_factors == nullptr) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("tensor '{}' is missing, the other rope factors are there",
                              long_factors == nullptr ? kLongFactorsName : kShortFactorsName))
          .In(path_);
    }
    config_.rope_scaling = RopeScalingType::kLongRope;
    config_.long_factor = ReadFactors(*long_factors);
    config_.short_factor = ReadFactors(*short_factors);
    const float factor = AttentionFactor();
    if (!IsFormula(factor)) config_.attention_factor = factor;
  }

  // What converters write is the formula's value, more or less exactly.
  bool IsFormula(float factor) const {
    constexpr float kTolerance = 1e-6F;  // as of config.json's attention_factor
    const float formula = RopeAttentionFactor(config_);
    return std::abs(factor - formula) <= kTolerance * formula;
  }

  // Ways to stretch a context that Phi models do not use, and that llama.cpp would follow.
  void RefuseOtherScaling() const {
    if (const Value* const value = FindKey(Own("rope.scaling.type"))) {
      const auto* const type = std::get_if<std::string>(value);
      if (type == nullptr) throw Bad(Own("rope.scaling.type"), *value, "a string");
      if (*type != "none" && *type != "longrope") {
        throw Unsupported(fmt::format("'{}' '{}' is not supported, only none and longrope",
                                      Own("rope.scaling.type"), Escape(*type)));
      }
    }
    for (const std::string& key : {Own("rope.scaling.factor"), Own("rope.scale_linear")}) {
      const Value* const value = FindKey(key);
      const auto* const factor = value == nullptr ? nullptr : std::get_if<float>(value);
      // 0 and 1: as it is.
      if (value == nullptr || (factor != nullptr && (*factor == 0 || *factor == 1))) continue;
      throw Unsupported(fmt::format("'{}' is {}, only 1 is supported", key, Show(*value)));
    }
  }

  std::vector<float> ReadFactors(const Tensor& tensor) const {
    const auto bad = [&](std::string message) {
      return Error(ErrorCode::kBadData, std::move(message)).In(path_).Tensor(tensor.name);
    };
    std::vector<float> factors(config_.rope_dim / 2);
    if (tensor.type != GgmlType::kF32 || tensor.shape.size() != 1 ||
        tensor.shape[0] != factors.size()) {
      throw bad(fmt::format("is {} of {} elements, needs F32 of {} (half the rotated dimensions)",
                            GetGgmlTypeInfo(tensor.type).name, tensor.shape.back(),
                            factors.size()));
    }
    file_.Read(tensor, 0, std::as_writable_bytes(std::span(factors)));
    for (std::size_t i = 0; i < factors.size(); ++i) {
      if (factors[i] > 0 && std::isfinite(factors[i])) continue;
      throw bad(fmt::format("element {} is {}, needs a finite number above 0", i, factors[i]));
    }
    return factors;
  }

  std::optional<std::uint32_t> SpecialId(std::string_view key) const {
    if (FindKey(key) == nullptr) return std::nullopt;
    return Count(key, 0, config_.vocab_size - 1);
  }

  const File& file_;
  const std::string path_;
  std::string_view name_;  // of the architecture
  ModelConfig config_;
};

class GgufModel final : public StoredModel {
 public:
  explicit GgufModel(File file)
      : StoredModel(file.parts()[0].path().string()), file_(std::move(file)) {
    try {
      ConfigReader reader(file_);
      config_ = reader.Read();
      tables_.emplace(config_, reader.AttentionFactor(), path());
    } catch (const Error& error) {
      refusal_ = error;
    }
    FindPieces();
  }

  std::string_view kind() const noexcept override { return "gguf"; }
  const ModelConfig& config() const override {
    if (refusal_) throw *refusal_;
    return config_;
  }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override {
    const Value* const value = Find(file_.metadata(), "general.name");
    const auto* const name = value == nullptr ? nullptr : std::get_if<std::string>(value);
    return name == nullptr ? "" : *name;
  }

  // llama.cpp runs phimoe on the graph of phi3, with other experts.
  Network network() const override {
    return config().n_experts == 0 ? NetworkOf(config_) : PlainerNetwork(config_);
  }
  Expression expression() const override {
    if (refusal_ || config_.n_experts == 0) return {};
    const Value* const value = Find(file_.metadata(), kReexpressedKey);
    const bool* const is_true = value == nullptr ? nullptr : std::get_if<bool>(value);
    return OwnExpression(config_, is_true != nullptr && *is_true);
  }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    file_.ReadRows(file_.tensors()[piece], first_row, n_rows, codec, out);
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_->ReadRotary(n_positions, cosines, sines);
  }

  Tokenizer ReadTokenizer(const WarningFn&) const override {
    return gguf::ReadTokenizer(file_.metadata(), path());
  }

  About Describe(const WarningFn&) const override {
    About about;
    for (const auto& [key, value] : file_.metadata())
      about.metadata.emplace_back(Escape(key), Show(value));
    const Value* chat_template = Find(file_.metadata(), "tokenizer.chat_template");
    const std::string* text =
        chat_template == nullptr ? nullptr : std::get_if<std::string>(chat_template);
    NoteChatTemplate(text == nullptr ? "" : *text, about);
    return about;
  }

  Facts facts() const override {
    Facts facts;
    for (const auto& [key, value] : file_.metadata()) {
      const auto* text = std::get_if<std::string>(&value);
      if (key.starts_with("phiq.") && text != nullptr) facts.emplace_back(key, *text);
    }
    return facts;
  }

  std::vector<std::string> FindDifferences(const Model& source, const SideFiles&) const override {
    return gguf::FindDifferences(file_, source);
  }

  void CheckUnchanged() const override {
    for (const InputFile& part : file_.parts()) part.CheckUnchanged();
  }

 private:
  // Beside file_.tensors(). Every tensor must have a role: one that phiq leaves out (a bias, say)
  // would change the model.
  void FindPieces() {
    ModelConfig config = config_;
    if (refusal_) {
      const Value* const value = Find(file_.metadata(), kArchitectureKey);
      const auto* const name = value == nullptr ? nullptr : std::get_if<std::string>(value);
      const KnownArchitecture* known = name == nullptr ? nullptr : FindArchitectureNamed(*name);
      config.architecture = known == nullptr ? kPhi3.class_name : known->architecture->class_name;
      config.attention_bias = config.lm_head_bias = true;
      config.n_experts = 1;  // whatever their number: only names are looked at
      config.n_layers = 0;
      for (const Tensor& tensor : file_.tensors())
        config.n_layers = std::max(config.n_layers, LayersBefore(tensor.name));
    }
    std::map<std::string, WeightInfo> roles;
    for (WeightInfo& weight : WeightsOf(config)) {
      std::string name = TensorName(weight.id);
      roles.emplace(std::move(name), std::move(weight));
    }
    for (const Tensor& tensor : file_.tensors()) {
      StoredPiece& piece = pieces_.emplace_back();
      piece.name = tensor.name;
      piece.shape = tensor.shape;
      piece.row_elements = tensor.shape.back();
      piece.n_rows = CheckedProduct(tensor.shape).value() / piece.row_elements;
      piece.type = GetGgmlTypeInfo(tensor.type).name;
      piece.encoding = tensor.type;
      piece.size_bytes = tensor.size_bytes;
      piece.file = file_.parts()[tensor.part].path().string();
      const auto refuse = [&](ErrorCode code, std::string why) {
        piece.holds = Holds::kNothing;
        piece.refusal = Error(code, std::move(why)).In(path()).Tensor(tensor.name);
      };
      if (tensor.name == kLongFactorsName || tensor.name == kShortFactorsName) {
        piece.holds = Holds::kTable;
        piece.table =
            tensor.name == kLongFactorsName ? ConfigTable::kLongFactor : ConfigTable::kShortFactor;
      } else if (const auto role = roles.find(tensor.name); role == roles.end()) {
        refuse(ErrorCode::kUnsupported,
               fmt::format("has no role in a {} model of {} layers",
                           config.architecture == kPhiMoe.class_name ? "phimoe" : "phi3",
                           config.n_layers));
      } else if (const std::size_t n_dims = DimsOf(role->second).size();
                 !refusal_ && tensor.shape.size() != n_dims) {
        refuse(ErrorCode::kBadData,
               fmt::format("has {} dimensions, needs {}", tensor.shape.size(), n_dims));
      } else if (!refusal_ && n_dims == 3 && tensor.shape[0] != config.n_experts) {
        refuse(ErrorCode::kBadData, fmt::format("is of {} experts, the model has {}",
                                                tensor.shape[0], config.n_experts));
      } else {
        piece.role = role->second.id.role;
        piece.layer = role->second.id.layer;
      }
    }
  }

  const File file_;
  std::optional<Error> refusal_;  // why it is no model that phiq computes
  ModelConfig config_;
  std::optional<ConfigTables> tables_;  // refers to config_
  std::vector<StoredPiece> pieces_;
};

}  // namespace

std::unique_ptr<StoredModel> MakeStoredModel(File file) {
  return std::make_unique<GgufModel>(std::move(file));
}

}  // namespace phiq::gguf
