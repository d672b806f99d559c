// Runtimes choose the model by the class's name, and take their own defaults for missing keys: what
// was read as a Phi-3 under another name has to say in the output what was read.
#include "model/config_text.h"

#include <fmt/format.h>

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/limits.h"
#include "model/architecture.h"
#include "model/rope.h"
#include "model/side_file.h"

namespace phiq {
namespace {

constexpr std::string_view kConfigJson = "config.json";

bool HasValue(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  return found != nullptr && !found->is_null();
}

// As people write the float: 1e-05.
double AsWritten(float number) { return std::stod(fmt::format("{}", number)); }

Json AsWritten(std::span<const float> numbers) {
  Json list = Json::array();
  for (const float number : numbers) list.push_back(AsWritten(number));
  return list;
}

// As transformers 4 checks it: no key more, and none less.
Json RopeScalingOf(const ModelConfig& config) {
  Json scaling = Json::object();
  scaling["type"] = "longrope";
  scaling["long_factor"] = AsWritten(config.long_factor);
  scaling["short_factor"] = AsWritten(config.short_factor);
  if (config.n_experts > 0) {
    scaling["long_mscale"] = AsWritten(LongRopeAttentionFactor(config));
    scaling["short_mscale"] = AsWritten(RopeAttentionFactor(config));
    scaling["original_max_position_embeddings"] = config.original_max_position_embeddings;
  } else if (config.attention_factor) {
    scaling["attention_factor"] = AsWritten(*config.attention_factor);
  }
  return scaling;
}

std::string_view TorchName(DType dtype) noexcept {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kF16 ? "float16" : "bfloat16";
}

}  // namespace

std::optional<std::string> OwnConfigText(const SideFiles& files, const ModelConfig& config) {
  const std::optional<std::string> text = files.ReadFile(kConfigJson, limits::kConfigBytes);
  if (!text) return std::nullopt;
  Json json = ParseJson(*text, SidePath(files, kConfigJson));
  const Json before = json;
  const ModelClass& own = ArchitectureOf(config).classes.front();
  const auto add = [&](std::string_view key, const auto& value) {
    if (!HasValue(json, key)) json[key] = value;
  };
  json["architectures"] = Json::array({own.name});
  add("max_position_embeddings", config.max_position_embeddings);
  add("rms_norm_eps", AsWritten(config.rms_norm_eps));
  json.erase("quantization_config");
  json.erase("quantization");  // MLX's
  if (config.class_name != own.name) {
    json["model_type"] = own.model_type;
    add("num_key_value_heads", config.n_kv_heads);
    json["sliding_window"] = config.sliding_window == 0 ? Json() : Json(config.sliding_window);
    json.erase("auto_map");                                   // code of the other class
    if (!HasValue(json, "head_dim")) json.erase("head_dim");  // null is no number to ours
  }
  if (json == before) return std::nullopt;
  return json.dump(2) + (text->ends_with('\n') ? "\n" : "");
}

std::string MakeConfigText(const ModelConfig& config) {
  const ModelClass& own = ArchitectureOf(config).classes.front();
  Json json = Json::object();
  // null where there is none: the class would take an id of its own.
  const auto add_id = [&](std::string_view key, std::optional<std::uint32_t> id) {
    json[key] = id ? Json(*id) : Json();
  };
  json["architectures"] = Json::array({own.name});
  json["model_type"] = own.model_type;
  json["vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["num_hidden_layers"] = config.n_layers;
  json["num_attention_heads"] = config.n_heads;
  json["num_key_value_heads"] = config.n_kv_heads;
  if (own.has_head_dim) json["head_dim"] = config.head_dim;
  json["hidden_act"] = "silu";
  json["rms_norm_eps"] = AsWritten(config.rms_norm_eps);
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["original_max_position_embeddings"] = config.original_max_position_embeddings;
  json["sliding_window"] = config.sliding_window == 0 ? Json() : Json(config.sliding_window);
  json["rope_theta"] = AsWritten(config.rope_theta);
  json["partial_rotary_factor"] = config.partial_rotary_factor;
  json["rope_scaling"] =
      config.rope_scaling == RopeScalingType::kNone ? Json() : RopeScalingOf(config);
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  if (own.has_bias) {
    json["attention_bias"] = config.attention_bias;
    json["lm_head_bias"] = config.lm_head_bias;
  }
  if (config.n_experts > 0) {
    json["num_local_experts"] = config.n_experts;
    json["num_experts_per_tok"] = config.n_experts_per_token;
    if (config.router_epsilon > 0) json["router_jitter_noise"] = AsWritten(config.router_epsilon);
  }
  add_id("bos_token_id", config.bos_token_id);
  add_id("eos_token_id", config.eos_token_id);
  add_id("pad_token_id", config.pad_token_id);
  if (config.torch_dtype) json["torch_dtype"] = TorchName(*config.torch_dtype);
  return json.dump(2) + "\n";
}

}  // namespace phiq
