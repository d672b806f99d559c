// config.json. Every number is checked here, so that no later room has to ask
// whether a configuration makes sense; whether the weights agree is asked by DescribeModel.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>

#include "base/ascii.h"
#include "base/limits.h"
#include "model/architecture.h"
#include "model/rope.h"
#include "model/side_file.h"
#include "phiq/model.h"
#include "phiq/text.h"

namespace phiq {
namespace {

class ConfigReader {
 public:
  ConfigReader(const Json& root, std::string path) : root_(root), path_(std::move(path)) {
    // The newer shape keeps all rope settings in rope_parameters, the classic one spreads them.
    // Where both are there transformers takes the classic one, whole.
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      const Json* object = FindMember(root, key);
      if (object == nullptr) continue;
      if (!object->is_object()) throw Bad(key, *object, "an object or null");
      if (object->empty()) continue;
      if (rope_ == nullptr) {
        rope_ = object;
        rope_key_ = key;
      } else {
        unused_rope_ = object;
      }
    }
  }

  const Json* Find(std::string_view key) const { return FindMember(root_, key); }
  // A rope setting: of the rope object, then of the top level.
  const Json* FindRope(std::string_view key) const {
    const Json* found = FindInRopeObject(key);
    return found != nullptr ? found : Find(key);
  }
  const Json* FindInRopeObject(std::string_view key) const {
    return rope_ == nullptr ? nullptr : FindMember(*rope_, key);
  }
  // One that transformers 4 takes from the top level alone.
  const Json* FindMovedRope(std::string_view key) const {
    const Json* const inner = FindInRopeObject(key);
    const Json* const outer = Find(key);
    if (inner == nullptr || outer == nullptr || *inner == *outer) return inner ? inner : outer;
    if (rope_key_ == "rope_parameters") return inner;  // which transformers 4 does not know
    throw Unsupported(fmt::format("'{}' is {}, but {} in {}: versions of transformers differ in "
                                  "which of them they take",
                                  key, Show(*outer), Show(*inner), rope_key_))
        .Hint("remove one of them");
  }
  std::string_view rope_key() const noexcept { return rope_key_; }
  void WarnOfUnusedRope(const WarningFn& warn) const {
    if (unused_rope_ == nullptr) return;
    const bool says_the_same = std::ranges::all_of(unused_rope_->members(), [&](const auto& m) {
      const Json* const used = FindRope(m.key);
      return used != nullptr && *used == m.value;
    });
    if (!says_the_same)
      WarnOf(warn, "rope_parameters is not used: rope_scaling goes before it, as in transformers");
  }

  // A whole number in [least, most].
  std::uint32_t Count(std::string_view key, std::uint32_t least, std::uint32_t most) const {
    return ToCount(key, Find(key), least, most);
  }
  std::uint32_t ToCount(std::string_view key, const Json* value, std::uint32_t least,
                        std::uint32_t most) const {
    const std::string wanted = fmt::format("a whole number from {} to {}", least, most);
    if (value == nullptr) throw Missing(key, wanted);
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() < least ||
        value->get<std::uint64_t>() > most) {
      throw Bad(key, *value, wanted);
    }
    return value->get<std::uint32_t>();
  }

  // A number above 0 that stays so as a float.
  float ToPositive(std::string_view key, const Json& value) const {
    const float number = value.is_number() ? value.get<float>() : 0.0F;
    if (!(number > 0) || !std::isfinite(number)) throw Bad(key, value, "a finite number above 0");
    return number;
  }

  bool Flag(std::string_view key) const { return JsonBool(root_, key, path_).value_or(false); }

  bool Has(std::string_view key) const { return root_.contains(key); }  // null counts
  void WarnOf(const WarningFn& warn, std::string_view text) const { Warn(warn, path_, text); }

  Error Missing(std::string_view key, std::string_view wanted) const {
    return Error(ErrorCode::kBadData, fmt::format("'{}' is missing, needs {}", key, wanted))
        .In(path_);
  }
  Error Bad(std::string_view key, const Json& value, std::string_view wanted) const {
    return Error(ErrorCode::kBadData, fmt::format("'{}' is {}, needs {}", key, Show(value), wanted))
        .In(path_);
  }
  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message)).In(path_);
  }

 private:
  const Json& root_;
  std::string path_;
  const Json* rope_ = nullptr;  // the object with rope settings
  std::string_view rope_key_;   // what it is called
  const Json* unused_rope_ = nullptr;
};

// A class of an architecture that phiq knows.
struct KnownClass {
  const Architecture* architecture = nullptr;
  const ModelClass* model_class = nullptr;
};

std::optional<KnownClass> FindClass(const std::function<bool(const ModelClass&)>& is_it) {
  for (const Architecture* architecture : Architectures()) {
    const auto found = std::ranges::find_if(architecture->classes, is_it);
    if (found != architecture->classes.end()) return KnownClass{architecture, &*found};
  }
  return std::nullopt;
}

// Models that people take for what phiq converts, or that it does not read yet.
constexpr auto kOtherModels = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"PhiForCausalLM", "Phi-1, Phi-1.5 and Phi-2 are not read"},
    {"Phi3SmallForCausalLM", "Phi-3-small computes another function"},
    {"Phi4FlashForCausalLM", "Phi-4-mini-flash-reasoning computes another function"},
    {"Phi4ForCausalLMV", "Phi-4-reasoning-vision is not read"},
    {"Phi4MultimodalForCausalLM", "Phi-4-multimodal is read as Phi4MMForCausalLM only"},
    {"Qwen2ForCausalLM", "Qwen2.5, which NextCoder is too, is no Phi"},
});

// What tools write in place of the class's name: wrappers that the model was trained in, and the
// model without its head.
bool StandsFor(const Json& entry, const ModelClass& model_class) {
  if (!entry.is_string()) return false;
  std::string_view name = entry.text();
  constexpr std::string_view kWrapper = "FSDP", kWithHead = "ForCausalLM";
  if (name == "PeftModelForCausalLM") return true;
  if (name.starts_with(kWrapper)) name.remove_prefix(kWrapper.size());
  if (name == model_class.name) return true;
  std::string_view inner = model_class.name;
  inner.remove_suffix(inner.ends_with(kWithHead) ? kWithHead.size() : 0);
  return name == fmt::format("{}Model", inner);
}

// The class by `architectures`; by model_type, as transformers does it, where that is of the same
// architecture or the names are no class's.
KnownClass ReadClass(const ConfigReader& reader, const WarningFn& warn) {
  const Json* names = reader.Find("architectures");
  const Json* type = reader.Find("model_type");
  const std::optional<KnownClass> by_type =
      type == nullptr ? std::nullopt
                      : FindClass([&](const ModelClass& c) { return *type == c.model_type; });
  if (names != nullptr && names->is_array() && names->empty()) names = nullptr;
  const std::optional<KnownClass> by_name =
      names == nullptr ? std::nullopt : FindClass([&](const ModelClass& c) {
        return *names == Json::array({c.name}) || *names == c.name;
      });
  if (by_name && (!by_type || by_type->architecture != by_name->architecture)) return *by_name;
  if (by_type && by_name && by_type->model_class->model_type == by_name->model_class->model_type)
    return *by_name;
  const bool is_told_by_type = [&] {
    if (!by_type || names == nullptr || by_name) return by_type.has_value();
    if (names->is_string()) return StandsFor(*names, *by_type->model_class);
    return names->is_array() && std::ranges::all_of(*names, [&](const Json& entry) {
             return StandsFor(entry, *by_type->model_class);
           });
  }();
  if (is_told_by_type) {
    reader.WarnOf(warn, fmt::format("'architectures' is {}: model_type {} stands for {}",
                                    names == nullptr ? "missing" : Show(*names), Show(*type),
                                    by_type->model_class->name));
    return *by_type;
  }
  std::string why;
  for (const auto& [name, reason] : kOtherModels) {
    if (names != nullptr && *names == Json::array({name})) why = fmt::format(": {}", reason);
  }
  throw reader
      .Unsupported(fmt::format("architecture {} is not supported{}",
                               names == nullptr ? "(none given)" : Show(*names), why))
      .Hint(fmt::format(
          "phiq converts {}: Phi-3-mini, Phi-3.5-mini, Phi-3-medium, Phi-4, Phi-4-mini, and these "
          "under the names of Llama and Mistral; and {}: Phi-3.5-MoE, Phi-mini-MoE, Phi-tiny-MoE",
          kPhi3.class_name, kPhiMoe.class_name));
}

void RefuseQuantized(const ConfigReader& reader) {
  if (reader.Find("quantization") == nullptr && reader.Find("quantization_config") == nullptr)
    return;
  throw reader.Unsupported("the weights are already quantized")
      .Hint("convert the checkpoint they were made from");
}

// Settings that would make the model compute something else than what phiq writes.
void CheckGraph(const ConfigReader& reader, const ModelClass& model_class) {
  const Json* model_type = reader.Find("model_type");
  if (model_type != nullptr && *model_type != model_class.model_type) {
    throw reader.Unsupported(fmt::format("model_type {} is not supported with {}, only {}",
                                         Show(*model_type), model_class.name,
                                         model_class.model_type));
  }
  const Json* activation = reader.Find("hidden_act");
  if (activation != nullptr && *activation != "silu" && *activation != "swish") {
    throw reader.Unsupported(
        fmt::format("hidden_act {} is not supported, only silu", Show(*activation)));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    const bool is_known = model_class.has_bias && std::string_view(key) == "attention_bias";
    if (!is_known && reader.Flag(key))
      throw reader.Unsupported(fmt::format("{} true is not supported", key));
  }
}

// What a class of transformers takes for a key that is left out, and which keys that were.
class Defaults {
 public:
  Defaults(const ConfigReader& reader, const ModelClass& model_class)
      : reader_(reader), class_(model_class) {}

  std::uint32_t Count(std::string_view key, std::uint32_t least, std::uint32_t most,
                      std::uint32_t otherwise) {
    if (reader_.Find(key) != nullptr || otherwise == 0) return reader_.Count(key, least, most);
    Note(key, fmt::format("{}", otherwise));
    return otherwise;
  }
  float Positive(std::string_view key, float otherwise) {
    const Json* value = reader_.Find(key);
    if (value != nullptr) return reader_.ToPositive(key, *value);
    if (otherwise == 0) throw reader_.Missing(key, "a number above 0");
    Note(key, fmt::format("{}", otherwise));
    return otherwise;
  }
  void WarnOf(const WarningFn& warn) const {
    if (taken_.empty()) return;
    reader_.WarnOf(warn, fmt::format("missing, and taken from the defaults of {}: {}", class_.name,
                                     fmt::join(taken_, ", ")));
  }

 private:
  void Note(std::string_view key, std::string_view value) {
    taken_.push_back(fmt::format("{} {}", key, value));
  }

  const ConfigReader& reader_;
  const ModelClass& class_;
  std::vector<std::string> taken_;
};

void ReadSizes(const ConfigReader& reader, const ModelClass& model_class, ModelConfig& config,
               const WarningFn& warn) {
  const ConfigDefaults& otherwise = model_class.defaults;
  Defaults keys(reader, model_class);
  config.vocab_size = reader.Count("vocab_size", 1, limits::kVocab);
  config.hidden_size = reader.Count("hidden_size", 1, limits::kHidden);
  config.intermediate_size = reader.Count("intermediate_size", 1, limits::kIntermediate);
  config.n_layers = reader.Count("num_hidden_layers", 1, limits::kLayers);
  config.n_heads = reader.Count("num_attention_heads", 1, limits::kHeads);
  if (config.hidden_size % config.n_heads != 0) {
    throw reader.Bad("num_attention_heads", config.n_heads,
                     fmt::format("a divisor of hidden_size {}", config.hidden_size));
  }
  config.head_dim = config.hidden_size / config.n_heads;
  if (const Json* head_dim = reader.Find("head_dim");
      head_dim != nullptr && *head_dim != config.head_dim) {
    if (!model_class.has_head_dim) {
      throw reader.Bad("head_dim", *head_dim,
                       fmt::format("{} (hidden_size / num_attention_heads)", config.head_dim));
    }
    config.head_dim = reader.Count("head_dim", 1, limits::kHidden);
  }
  config.n_kv_heads = otherwise.n_kv_heads == 0 ? config.n_heads : otherwise.n_kv_heads;
  if (reader.Find("num_key_value_heads") != nullptr || config.n_kv_heads > config.n_heads)
    config.n_kv_heads = reader.Count("num_key_value_heads", 1, config.n_heads);
  if (config.n_heads % config.n_kv_heads != 0) {
    throw reader.Bad("num_key_value_heads", config.n_kv_heads,
                     fmt::format("a divisor of num_attention_heads {}", config.n_heads));
  }
  config.rms_norm_eps = keys.Positive("rms_norm_eps", otherwise.rms_norm_eps);
  config.max_position_embeddings = keys.Count("max_position_embeddings", 2, limits::kPositions,
                                              otherwise.max_position_embeddings);
  config.tie_word_embeddings = reader.Flag("tie_word_embeddings");
  config.rope_theta = otherwise.rope_theta;
  if (model_class.has_bias) {
    config.attention_bias = reader.Flag("attention_bias");
    config.lm_head_bias = reader.Flag("lm_head_bias");
  }
  if (otherwise.n_experts > 0) {
    config.n_experts = keys.Count("num_local_experts", 2, limits::kExperts, otherwise.n_experts);
    // Sparsemixer is written out for two.
    config.n_experts_per_token = keys.Count("num_experts_per_tok", 2, 2, 2);
    config.router_epsilon = keys.Positive("router_jitter_noise", otherwise.router_epsilon);
  }
  keys.WarnOf(warn);
  if (!model_class.has_window) return;
  config.sliding_window = otherwise.sliding_window;
  if (reader.Has("sliding_window")) {
    config.sliding_window = reader.Find("sliding_window") == nullptr
                                ? 0
                                : reader.Count("sliding_window", 0, limits::kPositions);
  }
}

std::optional<RopeScalingType> ParseRopeType(const ConfigReader& reader, std::string_view key,
                                             const Json* value) {
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw reader.Bad(key, *value, "a string");
  const std::string type = LowerAscii(value->get<std::string>());
  if (type == "default") return RopeScalingType::kNone;
  if (type == "longrope" || type == "su") return RopeScalingType::kLongRope;
  if (type == "yarn") return RopeScalingType::kYarn;
  throw reader.Unsupported(fmt::format("rope scaling type {} is not supported", Show(*value)))
      .Hint("supported: longrope, su, yarn, default");
}

RopeScalingType ReadRopeType(const ConfigReader& reader) {
  const Json* newer = reader.FindInRopeObject("rope_type");
  const Json* older = reader.FindInRopeObject("type");
  const std::optional<RopeScalingType> type = ParseRopeType(reader, "rope_type", newer);
  const std::optional<RopeScalingType> same = ParseRopeType(reader, "type", older);
  if (type && same && *type != *same)
    throw reader.Bad("rope_type", *newer, fmt::format("the same as 'type', {}", Show(*older)));
  if (type) return *type;
  if (same) return *same;
  if (reader.FindRope("long_factor") != nullptr) throw reader.Missing("type", "longrope");
  return RopeScalingType::kNone;
}

std::vector<float> ReadFactors(const ConfigReader& reader, std::string_view key,
                               std::size_t n_wanted) {
  const std::string wanted =
      fmt::format("an array of {} numbers (half the rotated dimensions)", n_wanted);
  const Json* array = reader.FindRope(key);
  if (array == nullptr) throw reader.Missing(key, wanted);
  if (!array->is_array()) throw reader.Bad(key, *array, wanted);
  if (array->size() != n_wanted) {
    throw reader.Bad(key, *array, fmt::format("{}, has {}", wanted, array->size()));
  }
  std::vector<float> factors;
  for (std::size_t i = 0; i < n_wanted; ++i) {
    factors.push_back(reader.ToPositive(fmt::format("{}[{}]", key, i), (*array)[i]));
  }
  return factors;
}

bool IsNear(double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); }

// By what cosines and sines are multiplied: the formula's factor, or one that is written out.
void ReadAttentionFactor(const ConfigReader& reader, const ModelClass& model_class,
                         ModelConfig& config, const WarningFn& warn) {
  const Json* const short_scale = reader.FindInRopeObject("short_mscale");
  const Json* const long_scale = reader.FindInRopeObject("long_mscale");
  const bool has_mscale = short_scale != nullptr || long_scale != nullptr;
  if (has_mscale && !model_class.has_mscale) {
    reader.WarnOf(warn, fmt::format("short_mscale and long_mscale in {} are not used: {} does not "
                                    "know them, as in transformers",
                                    reader.rope_key(), model_class.name));
  } else if (has_mscale) {
    for (const auto& [key, other] :
         {std::pair("short_mscale", short_scale), std::pair("long_mscale", long_scale)}) {
      if (other == nullptr) throw reader.Missing(key, "a number above 0, as the other is there");
    }
    config.attention_factor = reader.ToPositive("short_mscale", *short_scale);
    config.long_attention_factor = reader.ToPositive("long_mscale", *long_scale);
    if (config.long_attention_factor == config.attention_factor)
      config.long_attention_factor = std::nullopt;
    return;
  }
  if (const Json* value = reader.FindInRopeObject("attention_factor")) {
    const float factor = reader.ToPositive("attention_factor", *value);
    if (!IsNear(factor, RopeAttentionFactor(config))) config.attention_factor = factor;
    return;
  }
  // transformers 5 puts it into the formula, transformers 4 the ratio of the two lengths.
  const Json* factor = reader.FindInRopeObject("factor");
  if (factor == nullptr) return;
  const double ratio =
      static_cast<double>(config.max_position_embeddings) / config.original_max_position_embeddings;
  if (IsNear(reader.ToPositive("factor", *factor), ratio)) return;
  throw reader
      .Unsupported(fmt::format(
          "rope 'factor' is {}, but max_position_embeddings / original_max_position_embeddings is "
          "{}: versions of transformers differ in which of them they take",
          Show(*factor), ratio))
      .Hint("remove 'factor', or write 'attention_factor' out");
}

// The length that the model was first trained for. The top level goes before the rope object, and
// so does what a class of transformers takes where the top level lacks it.
std::uint32_t ReadOriginalLength(const ConfigReader& reader, const ModelClass& model_class,
                                 const ModelConfig& config, const WarningFn& warn) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  const auto to_count = [&](const Json& value) {
    return reader.ToCount(kKey, &value, 2, limits::kPositions);
  };
  const Json* const outer = reader.Find(kKey);
  const Json* const inner = reader.FindInRopeObject(kKey);
  const std::uint32_t by_class = config.rope_scaling == RopeScalingType::kLongRope
                                     ? model_class.defaults.original_max_position_embeddings
                                     : 0;
  std::uint32_t length = by_class;
  if (outer != nullptr) {
    length = to_count(*outer);
  } else if (length == 0) {
    return inner != nullptr ? to_count(*inner) : config.max_position_embeddings;
  }
  if (inner != nullptr && to_count(*inner) != length) {
    reader.WarnOf(warn,
                  fmt::format("'{}' is {} in {} and not used: {} {}, as in transformers", kKey,
                              Show(*inner), reader.rope_key(),
                              outer != nullptr ? "the top level has" : "the class takes", length));
  }
  return length;
}

void ReadRope(const ConfigReader& reader, const ModelClass& model_class, ModelConfig& config,
              const WarningFn& warn) {
  reader.WarnOfUnusedRope(warn);
  if (const Json* theta = reader.FindMovedRope("rope_theta")) {
    config.rope_theta = reader.ToPositive("rope_theta", *theta);
  }
  if (const Json* factor = reader.FindMovedRope("partial_rotary_factor")) {
    config.partial_rotary_factor = factor->is_number() ? factor->get<double>() : 0.0;
    if (!(config.partial_rotary_factor > 0 && config.partial_rotary_factor <= 1)) {
      throw reader.Bad("partial_rotary_factor", *factor, "a number above 0 and at most 1");
    }
  }
  // Rounded over the whole width and then divided, as llama.cpp's converter does.
  config.rope_dim = static_cast<std::uint32_t>(
                        config.partial_rotary_factor *
                        static_cast<double>(std::uint64_t{config.n_heads} * config.head_dim)) /
                    config.n_heads;
  if (config.rope_dim == 0 || config.rope_dim % 2 != 0) {
    throw reader.Bad(
        "partial_rotary_factor", config.partial_rotary_factor,
        fmt::format("to give an even number of rotated dimensions, gives {}", config.rope_dim));
  }
  config.rope_scaling = ReadRopeType(reader);
  config.original_max_position_embeddings = ReadOriginalLength(reader, model_class, config, warn);
  if (!model_class.rotates_as_own &&
      (config.rope_dim != config.head_dim || config.rope_scaling == RopeScalingType::kYarn)) {
    throw reader.Unsupported(fmt::format(
        "partial rotation or rope type yarn in a {}, which means another function there",
        model_class.name));
  }
  if (config.rope_scaling == RopeScalingType::kNone) return;
  ReadAttentionFactor(reader, model_class, config, warn);
  if (config.rope_scaling == RopeScalingType::kYarn && !config.attention_factor) {
    ModelConfig longrope = config;
    longrope.rope_scaling = RopeScalingType::kLongRope;
    reader.WarnOf(warn, fmt::format("rope type yarn: cosines and sines are multiplied by {:.4g}, "
                                    "as llama.cpp does; transformers 4.43 and later take {:.4g}",
                                    RopeAttentionFactor(config), RopeAttentionFactor(longrope)));
  }
  config.long_factor = ReadFactors(reader, "long_factor", config.rope_dim / 2);
  config.short_factor = ReadFactors(reader, "short_factor", config.rope_dim / 2);
}

std::optional<std::uint32_t> ReadSpecialId(const ConfigReader& reader, std::string_view key,
                                           std::uint32_t vocab_size) {
  const Json* value = reader.Find(key);
  // Some tools write -1 for none.
  if (value == nullptr || value->is_array() || *value == -1) return std::nullopt;
  if (value->is_number_unsigned() && value->get<std::uint64_t>() >= vocab_size) {
    throw reader.Bad(key, *value, fmt::format("a token id below {}", vocab_size))
        .Hint(kMoreRowsHint);
  }
  return reader.ToCount(key, value, 0, vocab_size - 1);
}

// Padding is no part of any text: an id that cannot be is left out.
std::optional<std::uint32_t> ReadPadId(const ConfigReader& reader, std::uint32_t vocab_size,
                                       const std::string& path, const WarningFn& warn) {
  const Json* value = reader.Find("pad_token_id");
  if (value == nullptr || value->is_array()) return std::nullopt;
  if (value->is_number_unsigned() && value->get<std::uint64_t>() < vocab_size)
    return value->get<std::uint32_t>();
  Warn(warn, path,
       fmt::format("'pad_token_id' is {}, token ids are below {}; it is left out", Show(*value),
                   vocab_size));
  return std::nullopt;
}

std::optional<DType> ReadTorchDType(const ConfigReader& reader) {
  const Json* value = reader.Find("torch_dtype");
  if (value == nullptr) return std::nullopt;
  if (*value == "float32") return DType::kF32;
  if (*value == "float16") return DType::kF16;
  if (*value == "bfloat16") return DType::kBF16;
  return std::nullopt;
}

}  // namespace

ModelConfig ReadModelConfig(const SideFiles& files, const WarningFn& warn,
                            QuantizedWeights quantized, std::uint32_t n_tokens) {
  constexpr std::string_view kName = "config.json";
  const std::optional<Json> root = ReadJsonObject(files, kName, limits::kConfigBytes);
  if (!root) {
    throw Error(ErrorCode::kInput, "not found")
        .In(SidePath(files, kName))
        .Hint("a checkpoint folder holds config.json beside its weights");
  }
  const ConfigReader reader(*root, SidePath(files, kName));
  const auto [architecture, model_class] = ReadClass(reader, warn);
  if (quantized == QuantizedWeights::kRefuse) RefuseQuantized(reader);
  CheckGraph(reader, *model_class);
  ModelConfig config;
  config.architecture = architecture->class_name;
  config.class_name = model_class->name;
  ReadSizes(reader, *model_class, config, warn);
  ReadRope(reader, *model_class, config, warn);
  n_tokens = std::max(n_tokens, config.vocab_size);
  config.bos_token_id = ReadSpecialId(reader, "bos_token_id", n_tokens);
  config.eos_token_id = ReadSpecialId(reader, "eos_token_id", n_tokens);
  config.pad_token_id = ReadPadId(reader, n_tokens, SidePath(files, kName), warn);
  config.torch_dtype = ReadTorchDType(reader);
  return config;
}

}  // namespace phiq
