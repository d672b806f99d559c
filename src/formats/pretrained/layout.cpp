// Shards as transformers saves them, and beside them what the source has of config.json, tokenizer
// and generation_config.json.
#include "formats/pretrained/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "formats/generation_file.h"
#include "formats/model_card.h"
#include "formats/shards.h"
#include "formats/side_files.h"
#include "formats/tokenizer_files.h"
#include "model/float_types.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "safetensors/writer.h"

namespace phiq::pretrained {
namespace {

constexpr std::string_view kConfigName = "config.json";
constexpr std::string_view kTemplateName = "chat_template.jinja";
constexpr std::uint64_t kMaxShardBytes = 5'000'000'000;  // transformers' "5GB"
constexpr std::size_t kMaxShards = 64;                   // of a model of 300 GB
// As the safetensors library writes.
constexpr safetensors::Style kStyle = {.alignment_bytes = 8, .by_type = true};

std::vector<std::string_view> SideFileNames() {
  std::vector<std::string_view> names = {kConfigName, kGenerationConfig, kModelCard};
  names.insert(names.end(), TokenizerFileNames().begin(), TokenizerFileNames().end());
  return names;
}

FloatType FloatsOf(const PlanLine& line) {
  return FloatTypeOf(std::get<GgmlType>(line.encoding)).value();
}

// What most weights are: loaders turn the others into it.
FloatType MainType(const Plan& plan) {
  std::map<FloatType, std::uint64_t> n_weights;
  for (const PlanLine& line : plan.lines) n_weights[FloatsOf(line)] += line.n_elements();
  return std::ranges::max_element(n_weights, {}, [](const auto& of) { return of.second; })->first;
}

SideFile MakeConfig(const SideFiles& source, const Plan& plan) {
  const std::optional<std::string> text = source.ReadFile(kConfigName, limits::kConfigBytes);
  if (!text) throw Error(ErrorCode::kInput, "not found").In(SidePath(source, kConfigName));
  Json json = ParseJson(PortableJson(*text, kConfigName), kConfigName);
  json.erase("auto_map");  // loaders have the model built in: nobody should be asked to trust code
  const FloatType type = MainType(plan);
  const std::string_view name = type == FloatType::kF32   ? "float32"
                                : type == FloatType::kF16 ? "float16"
                                                          : "bfloat16";
  if (FindMember(json, "dtype") != nullptr) json["dtype"] = name;
  json["torch_dtype"] = name;
  return {std::string(kConfigName), BytesOf(json.dump(2) + "\n")};
}

// The files, or of a source without them the chat template alone.
std::vector<SideFile> MakeTokenizer(const SideFiles& source, const Model& model, Plan& plan) {
  const auto has = [&](std::string_view name) {
    return source.ReadFile(name, limits::kTokenizerJsonBytes).has_value();
  };
  if (has(kTokenizerJson) || has("tokenizer.model")) {
    NoteLostTemplates(source, model.tokenizer, plan);
    return ReadTokenizerFiles(source, {}, "transformers");
  }
  plan.decisions.push_back({"tokenizer", "missing",
                            "the source has no files of it: --tokenizer FOLDER copies them from "
                            "there, and transformers needs them for text"});
  if (model.tokenizer.chat_template.empty()) return {};
  return {{std::string(kTemplateName), BytesOf(model.tokenizer.chat_template)}};
}

}  // namespace

std::vector<std::string> OwnedFiles(const SideFiles&) {
  std::vector<std::string> names = ShardNames(kMaxShards);
  for (const std::string_view name : SideFileNames()) names.emplace_back(name);
  return names;
}

OutputLayout MakeLayout(const SideFiles& source, const Model& model, Plan& plan) {
  std::vector<ShardTensor> tensors;
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    const PlanLine& line = plan.lines[i];
    tensors.push_back({{line.name, DTypeOf(FloatsOf(line)), line.shape, ""},
                       PlacedArray{.line = i}});
  }
  safetensors::Metadata metadata = {{"format", "pt"}, {"phiq.version", PHIQ_VERSION}};
  metadata.insert(metadata.end(), plan.facts.begin(), plan.facts.end());
  OutputLayout layout;
  layout.is_folder = true;
  const std::string index =
      AddShards(std::move(tensors), metadata, kMaxShardBytes, kStyle, plan.n_weights(), layout);
  if (layout.files.size() > 1)
    layout.files.push_back(WholeFile(std::string(safetensors::kIndexName), BytesOf(index + "\n")));
  std::vector<SideFile> files = MakeTokenizer(source, model, plan);
  files.push_back(MakeGenerationConfig(source, model, plan));
  files.push_back(MakeModelCard(
      source, {"transformers", "safetensors", model.repository_id,
               fmt::format("\nWeights in {} with phiq.\n", plan.type)}));
  files.push_back(MakeConfig(source, plan));
  for (SideFile& file : files) {
    if (file.name == kConfigName) layout.root = layout.files.size();
    layout.files.push_back(WholeFile(std::move(file.name), std::move(file.content)));
  }
  return layout;
}

}  // namespace phiq::pretrained
