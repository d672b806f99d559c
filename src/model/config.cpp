// config.json. Every number is checked here, so that no later room has to ask
// whether a configuration makes sense; whether the weights agree is asked by DescribeModel.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/ascii.h"
#include "base/limits.h"
#include "model/architecture.h"
#include "model/side_file.h"
#include "phiq/model.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint32_t kDefaultOriginalPositions = 4096;  // transformers' Phi3Config

class ConfigReader {
 public:
  ConfigReader(const Json& root, std::string path) : root_(root), path_(std::move(path)) {
    // The newer shape keeps all rope settings in rope_parameters, the classic one spreads them.
    for (const char* key : {"rope_parameters", "rope_scaling"}) {
      const Json* object = FindMember(root, key);
      if (object == nullptr) continue;
      if (!object->is_object()) throw Bad(key, *object, "an object or null");
      rope_.push_back(object);
    }
  }

  const Json* Find(std::string_view key) const { return FindMember(root_, key); }
  // A rope setting: rope_parameters, then rope_scaling, then top level.
  const Json* FindRope(std::string_view key) const {
    const Json* found = FindInRopeObjects(key);
    return found != nullptr ? found : Find(key);
  }
  const Json* FindInRopeObjects(std::string_view key) const {
    for (const Json* object : rope_) {
      if (const Json* found = FindMember(*object, key)) return found;
    }
    return nullptr;
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
  std::vector<const Json*> rope_;
};

const Architecture& ReadArchitecture(const ConfigReader& reader) {
  const Json* found = reader.Find("architectures");
  for (const Architecture* known : Architectures()) {
    if (found != nullptr && *found == Json::array({known->class_name})) return *known;
  }
  throw reader
      .Unsupported(fmt::format("architecture {} is not supported",
                               found == nullptr ? "(none given)" : Show(*found)))
      .Hint(
          fmt::format("phiq converts {}: Phi-3-mini, Phi-3.5-mini, Phi-3-medium, Phi-4, Phi-4-mini",
                      kPhi3.class_name));
}

void RefuseQuantized(const ConfigReader& reader) {
  // MLX writes both keys, `quantization` being the one that it reads.
  if (reader.Find("quantization") != nullptr) {
    throw reader.Unsupported("the weights are already quantized for MLX")
        .Hint("convert the checkpoint they were made from");
  }
  if (const Json* quantization = reader.Find("quantization_config")) {
    const Json* method = FindMember(*quantization, "quant_method");
    throw reader
        .Unsupported(fmt::format("the weights are already quantized (quant_method {})",
                                 method == nullptr ? "not given" : Show(*method)))
        .Hint("convert the checkpoint they were made from");
  }
}

// Settings that would make the model compute something else than what phiq writes.
void CheckGraph(const ConfigReader& reader, const Architecture& architecture) {
  const Json* model_type = reader.Find("model_type");
  if (model_type != nullptr && *model_type != architecture.model_type) {
    throw reader.Unsupported(fmt::format("model_type {} is not supported, only {}",
                                         Show(*model_type), architecture.model_type));
  }
  const Json* activation = reader.Find("hidden_act");
  if (activation != nullptr && *activation != "silu") {
    throw reader.Unsupported(
        fmt::format("hidden_act {} is not supported, only silu", Show(*activation)));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (reader.Flag(key)) throw reader.Unsupported(fmt::format("{} true is not supported", key));
  }
}

void ReadSizes(const ConfigReader& reader, ModelConfig& config) {
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
    throw reader.Bad("head_dim", *head_dim,
                     fmt::format("{} (hidden_size / num_attention_heads)", config.head_dim));
  }
  config.n_kv_heads = reader.Find("num_key_value_heads") == nullptr
                          ? config.n_heads
                          : reader.Count("num_key_value_heads", 1, config.n_heads);
  if (config.n_heads % config.n_kv_heads != 0) {
    throw reader.Bad("num_key_value_heads", config.n_kv_heads,
                     fmt::format("a divisor of num_attention_heads {}", config.n_heads));
  }
  const Json* epsilon = reader.Find("rms_norm_eps");
  if (epsilon == nullptr) throw reader.Missing("rms_norm_eps", "a number above 0");
  config.rms_norm_eps = reader.ToPositive("rms_norm_eps", *epsilon);
  config.max_position_embeddings = reader.Count("max_position_embeddings", 2, limits::kPositions);
  if (reader.Find("sliding_window") != nullptr) {
    config.sliding_window = reader.Count("sliding_window", 0, limits::kPositions);
  }
  config.tie_word_embeddings = reader.Flag("tie_word_embeddings");
}

RopeScalingType ReadRopeType(const ConfigReader& reader) {
  const Json* value = reader.FindInRopeObjects("rope_type");
  const Json* older = reader.FindInRopeObjects("type");
  if (value != nullptr && older != nullptr && *value != *older) {
    throw reader.Bad("rope_type", *value, fmt::format("the same as 'type', {}", Show(*older)));
  }
  if (value == nullptr) value = older;
  if (value == nullptr) {
    if (reader.FindRope("long_factor") != nullptr) throw reader.Missing("type", "longrope");
    return RopeScalingType::kNone;
  }
  if (!value->is_string()) throw reader.Bad("rope_type", *value, "a string");
  const std::string type = LowerAscii(value->get<std::string>());
  if (type == "default") return RopeScalingType::kNone;
  if (type == "longrope" || type == "su") return RopeScalingType::kLongRope;
  if (type == "yarn") return RopeScalingType::kYarn;
  throw reader.Unsupported(fmt::format("rope scaling type {} is not supported", Show(*value)))
      .Hint("supported: longrope, su, yarn, default");
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

void ReadRope(const ConfigReader& reader, ModelConfig& config) {
  if (const Json* theta = reader.FindRope("rope_theta")) {
    config.rope_theta = reader.ToPositive("rope_theta", *theta);
  }
  if (const Json* factor = reader.FindRope("partial_rotary_factor")) {
    config.partial_rotary_factor = factor->is_number() ? factor->get<double>() : 0.0;
    if (!(config.partial_rotary_factor > 0 && config.partial_rotary_factor <= 1)) {
      throw reader.Bad("partial_rotary_factor", *factor, "a number above 0 and at most 1");
    }
  }
  // Rounded over the whole width and then divided, as llama.cpp's converter does.
  config.rope_dim = static_cast<std::uint32_t>(config.partial_rotary_factor * config.hidden_size) /
                    config.n_heads;
  if (config.rope_dim == 0 || config.rope_dim % 2 != 0) {
    throw reader.Bad(
        "partial_rotary_factor", config.partial_rotary_factor,
        fmt::format("to give an even number of rotated dimensions, gives {}", config.rope_dim));
  }
  config.rope_scaling = ReadRopeType(reader);
  const Json* original = reader.FindRope("original_max_position_embeddings");
  if (original != nullptr) {
    config.original_max_position_embeddings =
        reader.ToCount("original_max_position_embeddings", original, 2, limits::kPositions);
  } else {
    config.original_max_position_embeddings = config.rope_scaling == RopeScalingType::kLongRope
                                                  ? kDefaultOriginalPositions
                                                  : config.max_position_embeddings;
  }
  if (config.rope_scaling == RopeScalingType::kNone) return;
  if (const Json* factor = reader.FindInRopeObjects("attention_factor")) {
    throw reader.Unsupported(
        fmt::format("rope attention_factor {} is not supported", Show(*factor)));
  }
  config.long_factor = ReadFactors(reader, "long_factor", config.rope_dim / 2);
  config.short_factor = ReadFactors(reader, "short_factor", config.rope_dim / 2);
}

std::optional<std::uint32_t> ReadSpecialId(const ConfigReader& reader, std::string_view key,
                                           std::uint32_t vocab_size) {
  const Json* value = reader.Find(key);
  if (value == nullptr || value->is_array()) return std::nullopt;
  return reader.ToCount(key, value, 0, vocab_size - 1);
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

ModelConfig ReadModelConfig(const CheckpointFolder& folder, const WarningFn&,
                            QuantizedWeights quantized) {
  constexpr std::string_view kName = "config.json";
  const std::optional<Json> root = ReadJsonObject(folder, kName, limits::kConfigBytes);
  if (!root) {
    throw Error(ErrorCode::kInput, "not found")
        .In(SidePath(folder, kName))
        .Hint("a checkpoint folder holds config.json beside its weights");
  }
  const ConfigReader reader(*root, SidePath(folder, kName));
  const Architecture& architecture = ReadArchitecture(reader);
  if (quantized == QuantizedWeights::kRefuse) RefuseQuantized(reader);
  CheckGraph(reader, architecture);
  ModelConfig config;
  config.architecture = architecture.class_name;
  ReadSizes(reader, config);
  ReadRope(reader, config);
  config.bos_token_id = ReadSpecialId(reader, "bos_token_id", config.vocab_size);
  config.eos_token_id = ReadSpecialId(reader, "eos_token_id", config.vocab_size);
  config.pad_token_id = ReadSpecialId(reader, "pad_token_id", config.vocab_size);
  config.torch_dtype = ReadTorchDType(reader);
  return config;
}

}  // namespace phiq
