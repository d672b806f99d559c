// The flatbuffer, then its arrays; around them the bundle.
#include "formats/litert/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "formats/litert/bundle.h"
#include "formats/litert/llm_metadata.h"
#include "formats/side_files.h"
#include "formats/tokenizer_files.h"
#include "formats/tokenizer_notes.h"
#include "phiq/error.h"

namespace phiq::litert {
namespace {

// The oldest runtime that has all operators in these versions.
std::pair<std::string, std::string> MinRuntimeVersion() {
  std::string version = "2.17.0";
  version.resize(16);
  return {"min_runtime_version", std::move(version)};
}

ModelGraph DescribedGraph(const SideFiles& source, const Model& model, const GraphPlan& plan) {
  ModelGraph graph = BuildModelGraph(model.config, plan.lines, plan.graph);
  graph.description = "phiq " PHIQ_VERSION;
  graph.metadata = {MinRuntimeVersion(), {std::string(kTypeKey), plan.type}};
  for (const auto& fact : plan.facts) graph.metadata.push_back(fact);
  const std::optional<std::string> config = source.ReadFile(kConfigFile, limits::kConfigBytes);
  if (!config) throw Error(ErrorCode::kInput, "not found").In(source.PathOf(kConfigFile).string());
  graph.metadata.emplace_back(kConfigKey, *config);
  return graph;
}

// The tokenizer's section, and its content. tokenizer.json knows the added tokens.
std::pair<Section, std::vector<std::byte>> TokenizerSection(const SideFiles& source) {
  const std::vector<SideFile> files = ReadTokenizerFiles(source, {}, "LiteRT-LM");
  const auto find = [&](std::string_view name) {
    return std::ranges::find(files, name, &SideFile::name);
  };
  std::pair<Section, std::vector<std::byte>> made;
  if (const auto json = find(kTokenizerJson); json != files.end()) {
    made.first.type = SectionType::kZlibTokenizer;
    made.second = CompressTokenizer(json->content);
  } else {
    made.first.type = SectionType::kSentencePiece;
    made.second = find(kSentencePieceFile)->content;
  }
  made.first.end = made.second.size();
  return made;
}

}  // namespace

PlacedModel PlaceModel(const ModelGraph& graph, std::span<const PlanLine> lines) {
  const std::vector<BufferContent>& buffers = graph.pool.buffers();
  std::vector<std::uint64_t> offsets(buffers.size(), 1);
  const std::uint64_t head_bytes = Serialize(graph, offsets).bytes.size();
  PlacedModel placed;
  placed.size_bytes = head_bytes;
  std::vector<PlacedArray> arrays;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const StoredArray* stored = std::get_if<StoredArray>(&buffers[i]);
    if (stored == nullptr) continue;
    offsets[i] = AlignUp(placed.size_bytes, kArrayAlignment).value();
    arrays.push_back({stored->line, stored->array, 0, offsets[i], 0, {}});
    placed.size_bytes = offsets[i] + stored->size_bytes;
  }
  SerializedModel made = Serialize(graph, offsets);
  placed.head = std::move(made.bytes);
  for (const PlacedScales& scales : made.scales)
    placed.arrays.push_back({scales.line, 1, 0, scales.offset_bytes, 0, {}});
  std::ranges::sort(placed.arrays, {}, &PlacedArray::offset_bytes);
  placed.arrays.insert(placed.arrays.end(), arrays.begin(), arrays.end());
  for (const PlacedArray& array : placed.arrays)
    if (array.line >= lines.size()) throw Error(ErrorCode::kInternal, "an array of no line");
  return placed;
}

std::vector<Decision> TokenizerDecisions(const Model& model) {
  return TokenizerDifferences(model.tokenizer,
                              {.name = "LiteRT-LM",
                               .strips = TokenizerRuntime::Strips::kAsTokenizerJson,
                               .one_template = true});
}

OutputLayout MakeLayout(const SideFiles& source, const Model& model, GraphPlan& plan) {
  PlacedModel placed = PlaceModel(DescribedGraph(source, model, plan), plan.lines);
  OutputLayout layout;
  PlacedFile& file = layout.files.emplace_back();
  if (plan.is_bare) {
    file.head = std::move(placed.head);
    file.size_bytes = placed.size_bytes;
    layout.arrays = std::move(placed.arrays);
    return layout;
  }
  for (Decision& difference : TokenizerDecisions(model))
    plan.decisions.push_back(std::move(difference));
  const std::vector<std::byte> metadata = MakeLlmMetadata(source, model, plan);
  const auto [tokenizer_section, tokenizer] = TokenizerSection(source);
  std::array<Section, 3> sections = {Section{SectionType::kLlmMetadata, {}, 0, metadata.size()},
                                     tokenizer_section,
                                     Section{SectionType::kTfLiteModel,
                                             {{"model_type", "tf_lite_prefill_decode"}},
                                             0,
                                             placed.size_bytes}};
  file.head = MakeBundleHeader(sections, "phiq " PHIQ_VERSION);
  const std::array<std::span<const std::byte>, 3> contents = {metadata, tokenizer, placed.head};
  for (std::size_t i = 0; i < sections.size(); ++i) {
    file.head.resize(static_cast<std::size_t>(sections[i].begin));
    file.head.insert(file.head.end(), contents[i].begin(), contents[i].end());
  }
  file.size_bytes = sections.back().end;
  layout.arrays = std::move(placed.arrays);
  for (PlacedArray& array : layout.arrays) array.offset_bytes += sections.back().begin;
  return layout;
}

}  // namespace phiq::litert
