#include "formats/openvino/side_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "formats/generation_file.h"
#include "formats/openvino/tokenizer_graph.h"
#include "formats/tokenizer_files.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kTokenizerXml = "openvino_tokenizer.xml";
constexpr std::string_view kTokenizerBin = "openvino_tokenizer.bin";
constexpr std::string_view kDetokenizerXml = "openvino_detokenizer.xml";
constexpr std::string_view kDetokenizerBin = "openvino_detokenizer.bin";

// How long texts may be: what the tokenizer says, unless it is no length (transformers writes 1e30
// for "no limit").
std::uint64_t MaxLength(const SideFiles& source, const ModelConfig& config) {
  const std::optional<Json> json = ReadJsonObject(source, kTokenizerConfig, limits::kConfigBytes);
  const Json* length = json ? FindMember(*json, "model_max_length") : nullptr;
  if (length == nullptr || !length->is_number_unsigned()) return config.max_position_embeddings;
  return length->get<std::uint64_t>();
}

// What the runtime wants to know of the tokenizer. Without the version it leaves the graph as it
// is, and special tokens cannot be shown, nor texts be padded to a length.
std::vector<Info> TokenizerInfo(const Tokenizer& tokenizer, std::uint32_t pad_id) {
  std::vector<Info> info = {{"openvino_tokenizers_version", "phiq " PHIQ_VERSION, {}}};
  const auto add_id = [&](const char* name, std::optional<std::uint32_t> id) {
    if (id) info.push_back({name, fmt::format("{}", *id), {}});
  };
  add_id("bos_token_id", tokenizer.bos_id);
  add_id("eos_token_id", tokenizer.eos_id);
  add_id("pad_token_id", pad_id);
  if (!tokenizer.chat_template.empty())
    info.push_back({"chat_template", tokenizer.chat_template, {}});
  return info;
}

void AddGraph(GraphBuilder graph, std::string_view xml, std::string_view bin,
              std::vector<Info> info, std::vector<SideFile>& files) {
  graph.ir().info = std::move(info);
  files.push_back({std::string(bin), std::move(graph.data())});
  files.push_back({std::string(xml), WriteXml(graph.ir())});
}

// Where the graphs give other ids or another text than transformers does: the plan says so.
void NoteDifferences(const SideFiles& source, const Tokenizer& tokenizer,
                     const TokenizerSteps& steps, Plan& plan) {
  const auto note = [&](std::string_view subject, std::string_view value, std::string reason) {
    plan.decisions.push_back({std::string(subject), std::string(value), std::move(reason)});
  };
  const auto note_flag = [&](std::string_view key, std::optional<bool> wanted, bool is_done) {
    if (!wanted || *wanted == is_done) return;
    note(fmt::format("{}: {}", kTokenizerConfig, key), "not followed",
         fmt::format("it is {}, and the post_processor of {}, which the graph follows, {} it",
                     *wanted, kTokenizerJson, is_done ? "adds" : "does not add"));
  };
  note_flag("add_bos_token", tokenizer.add_bos, steps.first_special.has_value());
  note_flag("add_eos_token", tokenizer.add_eos, steps.last_special.has_value());
  const std::optional<Json> config = ReadJsonObject(source, kTokenizerConfig, limits::kConfigBytes);
  constexpr std::string_view kCleanUp = "clean_up_tokenization_spaces";
  const Json* clean_up = config ? FindMember(*config, kCleanUp) : nullptr;
  if (clean_up != nullptr && *clean_up == true) {
    note(fmt::format("{}: {}", kTokenizerConfig, kCleanUp), "not followed",
         "it is true: transformers takes spaces before punctuation away, the graph keeps them");
  }
  const auto normalized = std::ranges::find_if(tokenizer.added_tokens, &AddedToken::normalized);
  if (normalized != tokenizer.added_tokens.end() && !steps.normalizations.empty()) {
    note(fmt::format("{}: added_tokens", kTokenizerJson), "found before the normalizer",
         fmt::format("'{}' is normalized: transformers finds it behind the normalizer",
                     Escape(normalized->content)));
  }
}

void AddTokenizerGraphs(const SideFiles& source, const Model& model, const SideFile& json,
                        Plan& plan, std::vector<SideFile>& files) {
  const Tokenizer& tokenizer = model.tokenizer;
  const TokenizerSteps steps =
      ReadTokenizerSteps(TextOf(json), source.PathOf(json.name).string(), tokenizer);
  NoteDifferences(source, tokenizer, steps, plan);
  TokenizerOptions options;
  options.pad_id = tokenizer.pad_id.value_or(tokenizer.eos_id.value_or(0));
  options.max_length = MaxLength(source, model.config);
  const std::vector<Info> info = TokenizerInfo(tokenizer, options.pad_id);
  AddGraph(BuildTokenizerGraph(steps, options), kTokenizerXml, kTokenizerBin, info, files);
  AddGraph(BuildDetokenizerGraph(steps), kDetokenizerXml, kDetokenizerBin, info, files);
}

}  // namespace

std::vector<std::string_view> SideFileNames() {
  std::vector<std::string_view> names = {kConfig,       kGenerationConfig, kTokenizerXml,
                                         kTokenizerBin, kDetokenizerXml,   kDetokenizerBin};
  names.insert(names.end(), TokenizerFileNames().begin(), TokenizerFileNames().end());
  return names;
}

std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, Plan& plan) {
  std::vector<SideFile> files =
      ReadTokenizerFiles(source, std::array{kTokenizerJson}, "openvino-genai");
  const std::optional<std::string> config = source.ReadFile(kConfig, limits::kConfigBytes);
  if (!config) {
    throw Error(ErrorCode::kInput, "not found").In(source.PathOf(kConfig).string());
  }
  files.push_back({std::string(kConfig), BytesOf(*config)});
  files.push_back(MakeGenerationConfig(source, model, plan));
  const SideFile json = *std::ranges::find(files, kTokenizerJson, &SideFile::name);
  AddTokenizerGraphs(source, model, json, plan, files);
  return files;
}

}  // namespace phiq::openvino
