// openvino-genai needs the configuration, and the tokenizer as a graph of its own.
#include "formats/openvino/side_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "formats/generation_file.h"
#include "formats/openvino/tokenizer_graph.h"
#include "formats/tokenizer_files.h"
#include "formats/tokenizer_notes.h"
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
std::uint64_t MaxLength(const Model& model) {
  return model.tokenizer.max_length.value_or(model.config.max_position_embeddings);
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

void AddTokenizerGraphs(const Model& model, Plan& plan, std::vector<SideFile>& files) {
  const Tokenizer& tokenizer = model.tokenizer;
  const TokenizerSteps steps = ReadTokenizerSteps(tokenizer);
  for (Decision& difference : TokenizerDecisions(model))
    plan.decisions.push_back(std::move(difference));
  TokenizerOptions options;
  options.pad_id = tokenizer.pad_id.value_or(tokenizer.eos_id.value_or(0));
  options.max_length = MaxLength(model);
  const std::vector<Info> info = TokenizerInfo(tokenizer, options.pad_id);
  AddGraph(BuildTokenizerGraph(steps, options), kTokenizerXml, kTokenizerBin, info, files);
  AddGraph(BuildDetokenizerGraph(steps), kDetokenizerXml, kDetokenizerBin, info, files);
}

// The checkpoint's config.json. Code that auto_map names is not copied, and loaders that are told
// to trust it would look for it; every one of them knows phi3 without.
SideFile CopyConfig(const SideFiles& source, Plan& plan) {
  constexpr std::string_view kAutoMap = "auto_map";
  const std::string path = SidePath(source, kConfig);
  std::optional<std::string> read = source.ReadFile(kConfig, limits::kConfigBytes);
  if (!read) throw Error(ErrorCode::kInput, "not found").In(path);
  const std::string text = PortableJson(*std::move(read), path);
  Json json = ParseJson(text, path);
  if (!json.contains(kAutoMap)) return {std::string(kConfig), BytesOf(text)};
  json.erase(kAutoMap);
  plan.decisions.push_back({fmt::format("{}: {}", kConfig, kAutoMap), "removed",
                            "the code that it names is not copied, and no reader needs it"});
  return {std::string(kConfig), BytesOf(json.dump(2) + "\n")};
}

// openvino-genai takes special tokens of tokenizer_config.json as texts only; older versions of
// transformers wrote objects.
void WriteTokensAsTexts(const SideFiles& source, SideFile& file, Plan& plan) {
  Json json = ParseJson(TextOf(file), SidePath(source, file.name));
  std::vector<std::string> changed;
  for (const char* const key : {"bos_token", "eos_token", "pad_token", "unk_token", "sep_token",
                                "cls_token", "mask_token"}) {
    const Json* const token = FindMember(json, key);
    const Json* const content = token == nullptr ? nullptr : FindMember(*token, "content");
    if (content == nullptr) continue;
    json[key] = Json(*content);
    changed.emplace_back(key);
  }
  if (changed.empty()) return;
  file.content = BytesOf(json.dump(2) + "\n");
  plan.decisions.push_back({std::string(kTokenizerConfig),
                            fmt::format("{}", fmt::join(changed, ", ")),
                            "as texts, which openvino-genai reads; they were objects"});
}

}  // namespace

std::vector<std::string_view> SideFileNames() {
  std::vector<std::string_view> names = {kConfig,       kGenerationConfig, kTokenizerXml,
                                         kTokenizerBin, kDetokenizerXml,   kDetokenizerBin};
  names.insert(names.end(), TokenizerFileNames().begin(), TokenizerFileNames().end());
  return names;
}

std::vector<Decision> TokenizerDecisions(const Model& model) {
  return TokenizerDifferences(model.tokenizer, {.name = "the graph", .one_template = true});
}

std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, Plan& plan) {
  std::vector<SideFile> files =
      ReadTokenizerFiles(source, std::array{kTokenizerJson}, "openvino-genai");
  for (SideFile& file : files)
    if (file.name == kTokenizerConfig) WriteTokensAsTexts(source, file, plan);
  files.push_back(CopyConfig(source, plan));
  files.push_back(MakeGenerationConfig(source, model, plan));
  AddTokenizerGraphs(model, plan, files);
  return files;
}

}  // namespace phiq::openvino
