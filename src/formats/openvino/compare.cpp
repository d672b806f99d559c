// The expected graph is built anew, from the encodings that were found, and compared layer by
// layer.
#include "formats/openvino/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "formats/openvino/side_files.h"
#include "formats/side_files.h"
#include "formats/tokenizer_files.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

using LayerIndex = std::map<std::string_view, std::size_t>;

LayerIndex ByName(const Ir& ir) {
  LayerIndex index;
  for (std::size_t i = 0; i < ir.layers.size(); ++i) index.emplace(ir.layers[i].name, i);
  return index;
}

// Where an input comes from, by name.
std::string SourceOf(const Ir& ir, const Value& value) {
  if (value.layer == kNoLayer) return "";
  return fmt::format("{}:{}", ir.layers[value.layer].name, value.output);
}

std::map<std::string_view, std::string_view> AttributesOf(const Layer& layer) {
  std::map<std::string_view, std::string_view> attributes;
  for (const auto& [name, value] : layer.attributes) {
    if (layer.type != "Const" || name != "offset") attributes[name] = value;
  }
  return attributes;
}

// What differs between two layers; empty: nothing.
std::string DifferenceOf(const Ir& expected, const Layer& wanted, const Ir& found,
                         const Layer& layer) {
  if (layer.type != wanted.type || layer.version != wanted.version) return "type";
  if (AttributesOf(layer) != AttributesOf(wanted)) return "attributes";
  const bool same_inputs = std::ranges::equal(
      wanted.inputs, layer.inputs,
      [&](const Value& a, const Value& b) { return SourceOf(expected, a) == SourceOf(found, b); });
  if (!same_inputs) return "inputs";
  if (layer.outputs != wanted.outputs || layer.output_names != wanted.output_names)
    return "outputs";
  return layer.is_decompression == wanted.is_decompression ? "" : "mark of decompression";
}

// Bytes of a constant of the expected graph; nullopt: it is one of the weights.
std::optional<std::span<const std::byte>> SmallConstant(const PlacedGraph& expected,
                                                        const Layer& layer) {
  const std::uint64_t offset_bytes = std::stoull(*layer.FindAttribute("offset"));
  const std::uint64_t size_bytes = std::stoull(*layer.FindAttribute("size"));
  if (offset_bytes + size_bytes > expected.small_constants.size()) return std::nullopt;
  return std::span(expected.small_constants).subspan(offset_bytes, size_bytes);
}

bool HasBytes(const Folder& folder, std::string_view name, std::span<const std::byte> wanted) {
  const StoredConst* constant = folder.FindConstant(name);
  if (constant == nullptr || constant->size_bytes != wanted.size()) return false;
  std::vector<std::byte> bytes(wanted.size());
  folder.Read(*constant, 0, bytes);
  return std::ranges::equal(bytes, wanted);
}

void CompareInfo(const Ir& expected, const Ir& found, std::vector<std::string>& problems) {
  constexpr std::string_view kSection = "runtime_options";
  // Of two sections, and of two values in one, the runtime takes the last.
  const auto values_of = [&](const Ir& ir) {
    std::multiset<std::pair<std::string_view, std::string_view>> values;
    for (const Info& section : ir.info) {
      if (section.name != kSection) continue;
      values.insert({kSection, ""});
      for (const Info& leaf : section.children) values.insert({leaf.name, leaf.value});
    }
    return values;
  };
  if (values_of(expected) != values_of(found))
    problems.push_back(fmt::format("rt_info: {} are not those that phiq writes", kSection));
}

}  // namespace

Facts FactsOf(const Folder& folder) {
  Facts facts;
  for (const Info& section : folder.ir().info) {
    if (section.name != "phiq") continue;
    for (const Info& leaf : section.children)
      if (leaf.name != "version" && leaf.name != "type")
        facts.emplace_back(fmt::format("phiq.{}", leaf.name), leaf.value);
  }
  return facts;
}

PlanLine LineOf(const Weight& weight) {
  PlanLine line;
  line.name = weight.checkpoint_name;
  line.role = weight.id.role;
  line.layer = weight.id.layer;
  line.shape = {weight.row_elements};
  if (!IsVector(weight.id.role))
    line.shape.insert(line.shape.begin(), weight.n_rows / weight.n_matrices);
  if (weight.n_matrices > 1) line.shape.insert(line.shape.begin(), weight.n_matrices);
  line.encoding = weight.encoding;
  return line;
}

std::vector<std::string> CompareGraphs(const PlacedGraph& expected, const Folder& folder,
                                       const std::function<bool(std::string_view)>& may_differ) {
  std::vector<std::string> problems;
  const LayerIndex wanted = ByName(expected.ir), found = ByName(folder.ir());
  for (const Layer& layer : expected.ir.layers) {
    const auto same = found.find(layer.name);
    if (same == found.end()) {
      problems.push_back(fmt::format("layer '{}' is missing", layer.name));
      continue;
    }
    const std::string what =
        DifferenceOf(expected.ir, layer, folder.ir(), folder.ir().layers[same->second]);
    if (!what.empty()) {
      problems.push_back(
          fmt::format("layer '{}' has another {} than phiq writes", layer.name, what));
    } else if (layer.type == "Const" && !may_differ(layer.name)) {
      const auto bytes = SmallConstant(expected, layer);
      if (bytes && !HasBytes(folder, layer.name, *bytes))
        problems.push_back(
            fmt::format("layer '{}' has other values than the source gives", layer.name));
    }
  }
  for (const Layer& layer : folder.ir().layers) {
    if (!wanted.contains(layer.name))
      problems.push_back(
          fmt::format("layer '{}' has no counterpart in the source", Escape(layer.name)));
  }
  return problems;
}

std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model) {
  std::vector<std::string> problems;
  PlacedGraph expected;
  std::vector<SideFile> side_files;
  try {
    Plan plan;
    plan.facts = FactsOf(folder);
    for (const Weight& weight : folder.weights()) plan.lines.push_back(LineOf(weight));
    expected = PlaceModel(model.config, plan, /*file=*/0);
    side_files = MakeSideFiles(source, model, plan);
  } catch (const Error& error) {
    // It lacks a weight.
    problems.push_back(fmt::format("the graph cannot be compared: {}", error.what()));
    return problems;
  }
  problems = CompareGraphs(expected, folder, [](std::string_view) { return false; });
  CompareInfo(expected.ir, folder.ir(), problems);
  const std::vector<std::string> differences =
      CompareSideFiles(side_files, TokenizerFileNames(), folder.parent());
  problems.insert(problems.end(), differences.begin(), differences.end());
  return problems;
}

}  // namespace phiq::openvino
