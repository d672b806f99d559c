// Reads generation_config.json and the special ids of config.json.
#include "model/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include "base/limits.h"
#include "model/side_file.h"

namespace phiq {
namespace {

// What the chat templates of Phi models put after each turn.
constexpr std::array<std::string_view, 2> kTurnEnds = {"<|end|>", "<|im_end|>"};

class IdReader {
 public:
  IdReader(const Json& object, std::string path, std::uint32_t vocab_size)
      : object_(object), path_(std::move(path)), vocab_size_(vocab_size) {}

  // A number or a list of them, each once; empty when the key is missing, null or -1 (which some
  // tools write for none).
  std::vector<std::uint32_t> Ids(std::string_view key) const {
    const Json* value = FindMember(object_, key);
    if (value == nullptr || *value == -1) return {};
    std::vector<std::uint32_t> ids;
    std::unordered_set<std::uint32_t> seen;
    const auto add = [&](const Json& item) {
      if (!item.is_number_unsigned() || item.get<std::uint64_t>() >= vocab_size_) {
        throw Error(ErrorCode::kBadData, fmt::format("'{}' is {}, allowed are token ids below {}",
                                                     key, Show(*value), vocab_size_))
            .In(path_)
            .Hint(item.is_number_unsigned() ? kMoreRowsHint : "");
      }
      const auto id = item.get<std::uint32_t>();
      if (seen.insert(id).second) ids.push_back(id);
    };
    if (value->is_array()) {
      for (const Json& item : *value) add(item);
    } else {
      add(*value);
    }
    return ids;
  }
  // The id of padding, which no text needs: nullopt also where it cannot be.
  std::optional<std::uint32_t> PadId() const {
    const Json* value = FindMember(object_, "pad_token_id");
    if (value == nullptr || !value->is_number_unsigned() ||
        value->get<std::uint64_t>() >= vocab_size_)
      return std::nullopt;
    return value->get<std::uint32_t>();
  }

 private:
  const Json& object_;
  std::string path_;
  std::uint32_t vocab_size_;
};

// What no runtime takes.
void CheckSampling(const GenerationConfig& config, const std::string& path) {
  const auto refuse = [&](std::string_view key, auto value, std::string_view allowed) {
    throw Error(ErrorCode::kBadData, fmt::format("'{}' is {}, allowed is {}", key, value, allowed))
        .In(path);
  };
  if (config.top_k > 0x7FFFFFFF) refuse("top_k", config.top_k, "0 to 2147483647");
  if (!(config.temperature >= 0)) refuse("temperature", config.temperature, "0 or more");
  if (!(config.top_p >= 0 && config.top_p <= 1)) refuse("top_p", config.top_p, "0 to 1");
}

// An end of text that generation_config.json leaves out.
void AddEos(std::uint32_t id, std::string_view reason, GenerationConfig& config) {
  config.eos_token_ids.push_back(id);
  config.added_eos.emplace_back(
      id, fmt::format("{}, and generation_config.json leaves it out", reason));
}

void AddTurnEnds(const Tokenizer& tokenizer, std::uint32_t vocab_size, GenerationConfig& config) {
  for (const std::string_view text : kTurnEnds) {
    if (tokenizer.chat_template.find(text) == std::string::npos) continue;
    const auto token = std::ranges::find(tokenizer.added_tokens, text, &AddedToken::content);
    const bool is_new =
        token != tokenizer.added_tokens.end() && token->id < vocab_size &&
        std::ranges::find(config.eos_token_ids, token->id) == config.eos_token_ids.end();
    if (is_new) AddEos(token->id, fmt::format("{} ends a turn of the chat template", text), config);
  }
}

}  // namespace

GenerationConfig ReadGenerationConfig(const SideFiles& files, const Model& model) {
  GenerationConfig config;
  std::vector<std::uint32_t> bos, eos_of_config;
  std::optional<std::uint32_t> pad;
  // Later files win; ends of text are those of both.
  for (const std::string_view name : {"config.json", "generation_config.json"}) {
    const std::optional<Json> json = ReadJsonObject(files, name, limits::kConfigBytes);
    if (!json) continue;
    const std::string path = SidePath(files, name);
    const IdReader reader(*json, path, model.config.vocab_size);
    const auto take = [&](std::string_view key, std::vector<std::uint32_t>& ids) {
      if (std::vector<std::uint32_t> found = reader.Ids(key); !found.empty())
        ids = std::move(found);
    };
    take("bos_token_id", bos);
    if (const std::optional<std::uint32_t> id = reader.PadId()) pad = id;
    if (name == "config.json") {
      take("eos_token_id", eos_of_config);
      continue;
    }
    take("eos_token_id", config.eos_token_ids);
    config.file_names_eos = !config.eos_token_ids.empty();
    config.do_sample = JsonBool(*json, "do_sample", path).value_or(config.do_sample);
    config.temperature = JsonNumber(*json, "temperature", path).value_or(config.temperature);
    // -1 is vLLM's word for all.
    const Json* const top_k = FindMember(*json, "top_k");
    config.top_k = top_k != nullptr && *top_k == -1
                       ? 0
                       : JsonUnsigned(*json, "top_k", path).value_or(config.top_k);
    config.top_p = JsonNumber(*json, "top_p", path).value_or(config.top_p);
    CheckSampling(config, path);
  }
  if (config.file_names_eos) {
    const std::unordered_set<std::uint32_t> known(config.eos_token_ids.begin(),
                                                  config.eos_token_ids.end());
    for (const std::uint32_t id : eos_of_config) {
      if (!known.contains(id)) AddEos(id, "config.json stops there", config);
    }
  } else {
    config.eos_token_ids = std::move(eos_of_config);
  }
  if (config.eos_token_ids.empty() && model.tokenizer.eos_id)
    config.eos_token_ids.push_back(*model.tokenizer.eos_id);
  AddTurnEnds(model.tokenizer, model.config.vocab_size, config);
  if (config.eos_token_ids.empty()) {
    throw Error(ErrorCode::kBadData, "no 'eos_token_id' here or in generation_config.json")
        .In(SidePath(files, "config.json"))
        .Hint("without one generation never stops");
  }
  if (!bos.empty()) config.bos_token_id = bos.front();
  config.pad_token_id = pad.value_or(config.eos_token_ids.front());
  return config;
}

std::vector<std::uint32_t> ReadStopIds(const SideFiles& files, std::uint32_t vocab_size) {
  std::vector<std::uint32_t> ids;
  for (const std::string_view name : {"config.json", "generation_config.json"}) {
    const std::optional<Json> json = ReadJsonObject(files, name, limits::kConfigBytes);
    if (!json) continue;
    for (const std::uint32_t id :
         IdReader(*json, SidePath(files, name), vocab_size).Ids("eos_token_id"))
      if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

}  // namespace phiq
