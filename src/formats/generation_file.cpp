// Written by every folder format alike: runtimes stop where this file says, and a missing end id
// lets them run on.
#include "formats/generation_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <string>

#include "base/json.h"
#include "base/limits.h"
#include "model/generation.h"
#include "phiq/text.h"

namespace phiq {

SideFile MakeGenerationConfig(const SideFiles& source, const Model& model, Plan& plan) {
  const GenerationConfig generation = ReadGenerationConfig(source, model);
  const std::optional<std::string> text = source.ReadFile(kGenerationConfig, limits::kConfigBytes);
  if (text && generation.file_names_eos && generation.added_eos.empty())
    return {std::string(kGenerationConfig), BytesOf(PortableJson(*text, kGenerationConfig))};
  Json json = Json::object();
  if (text) {
    // Read once more, for the order of its keys.
    json = ParseJson(PortableJson(*text, kGenerationConfig), kGenerationConfig);
    if (!generation.file_names_eos) {
      plan.decisions.push_back(
          {fmt::format("{}: eos_token_id", kGenerationConfig),
           fmt::format("[{}]", fmt::join(generation.eos_token_ids, ", ")),
           "it names none, and runtimes do not look for all of them elsewhere"});
    }
  } else {
    plan.decisions.push_back({std::string(kGenerationConfig), "new",
                              "the checkpoint has none, and config.json names one id at most"});
    if (generation.bos_token_id) json["bos_token_id"] = *generation.bos_token_id;
    json["pad_token_id"] = generation.pad_token_id;
  }
  json["eos_token_id"] = generation.eos_token_ids;
  for (const auto& [id, reason] : generation.added_eos) {
    plan.decisions.push_back(
        {fmt::format("{}: eos_token_id", kGenerationConfig), fmt::format("+{}", id), reason});
  }
  return {std::string(kGenerationConfig), BytesOf(json.dump(2) + "\n")};
}

}  // namespace phiq
