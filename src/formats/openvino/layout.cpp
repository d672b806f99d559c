// Graph, then offsets in the .bin file, then the files beside.
#include "formats/openvino/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "formats/openvino/model_graph.h"
#include "formats/openvino/plan.h"
#include "formats/openvino/side_files.h"
#include "phiq/error.h"

namespace phiq::openvino {
namespace {

constexpr std::uint64_t kAlignment = 64;  // a cache line, which the runtime maps as it is

// What tools and the runtime may want to know of the model.
std::vector<Info> ModelInfo(const Plan& plan) {
  // The scale keeps float16 activations in range on devices that compute in them. The precision of
  // the cache is for floats: compressed models leave it to the device. Both as optimum-intel
  // writes them.
  Info runtime{"runtime_options", "", {{"ACTIVATIONS_SCALE_FACTOR", "8.0", {}}}};
  if (!HasCodes(plan)) runtime.children.push_back({"KV_CACHE_PRECISION", "f16", {}});
  Info own{"phiq", "", {{"version", PHIQ_VERSION, {}}, {"type", plan.type, {}}}};
  for (const auto& [key, value] : plan.facts) {
    std::string_view name = key;
    if (name.starts_with("phiq.")) name.remove_prefix(5);
    own.children.push_back({std::string(name), value, {}});
  }
  return {{"Runtime_version", "phiq " PHIQ_VERSION, {}}, std::move(runtime), std::move(own)};
}

void CheckModel(const ModelConfig& config) {
  if (config.rope_scaling == RopeScalingType::kYarn) {
    throw Error(ErrorCode::kUnsupported, "rope type yarn is not written to OpenVINO")
        .In("config.json");
  }
}

}  // namespace

std::vector<std::string> OwnedFiles() {
  std::vector<std::string> names = {std::string(kModelXml), std::string(kModelBin)};
  for (const std::string_view name : SideFileNames()) names.emplace_back(name);
  return names;
}

PlacedGraph PlaceModel(const ModelConfig& config, const Plan& plan, std::size_t file) {
  CheckModel(config);
  GraphBuilder graph = BuildModelGraph(config, plan);
  PlacedGraph placed;
  std::uint64_t end = graph.data().size();
  for (const StoredConstant& constant : graph.stored()) {
    const std::uint64_t offset_bytes = AlignUp(end, kAlignment).value();
    graph.ir().layers[constant.layer].SetAttribute("offset", fmt::format("{}", offset_bytes));
    const PlanLine& line = plan.lines[constant.line];
    placed.arrays.push_back({constant.line, constant.array, file, offset_bytes, /*padding_bytes=*/0,
                             OrderOf(line.encoding, constant.array, line.row_elements())});
    end = offset_bytes + constant.size_bytes;
  }
  placed.bin_bytes = end;
  placed.small_constants = std::move(graph.data());
  placed.ir = std::move(graph.ir());
  placed.ir.info = ModelInfo(plan);
  return placed;
}

OutputLayout MakeLayout(const SideFiles& side_files, const Model& model, Plan& plan) {
  OutputLayout layout;
  layout.is_folder = true;
  PlacedGraph placed = PlaceModel(model.config, plan, /*file=*/0);
  layout.arrays = std::move(placed.arrays);
  layout.files.push_back(
      {std::string(kModelBin), std::move(placed.small_constants), placed.bin_bytes});
  for (SideFile& file : MakeSideFiles(side_files, model, plan))
    layout.files.push_back(WholeFile(std::move(file.name), std::move(file.content)));
  layout.root = layout.files.size();
  layout.files.push_back(WholeFile(std::string(kModelXml), WriteXml(placed.ir)));
  return layout;
}

}  // namespace phiq::openvino
