// Runtimes choose the model by the class's name, and take their own defaults for missing keys: what
// was read as a Phi-3 under another name has to say in the output what was read.
#include "model/config_text.h"

#include <fmt/format.h>

#include <string>

#include "base/json.h"
#include "base/limits.h"
#include "model/architecture.h"
#include "model/side_file.h"

namespace phiq {
namespace {

constexpr std::string_view kConfigJson = "config.json";

bool HasValue(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  return found != nullptr && !found->is_null();
}

}  // namespace

std::optional<std::string> OwnConfigText(const CheckpointFolder& folder,
                                         const ModelConfig& config) {
  const std::optional<std::string> text = folder.ReadFile(kConfigJson, limits::kConfigBytes);
  if (!text) return std::nullopt;
  Json json = ParseJson(*text, SidePath(folder, kConfigJson));
  const Json before = json;
  const ModelClass& own = ArchitectureOf(config).classes.front();
  const auto add = [&](std::string_view key, const auto& value) {
    if (!HasValue(json, key)) json[key] = value;
  };
  json["architectures"] = Json::array({own.name});
  add("max_position_embeddings", config.max_position_embeddings);
  // As people write the float: 1e-05.
  add("rms_norm_eps", std::stod(fmt::format("{}", config.rms_norm_eps)));
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

}  // namespace phiq
