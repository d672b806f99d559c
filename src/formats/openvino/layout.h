// The folder that openvino-genai loads, with every byte's place decided.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/layout.h"
#include "formats/openvino/graph.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::openvino {

inline constexpr std::string_view kModelXml = "openvino_model.xml";
inline constexpr std::string_view kModelBin = "openvino_model.bin";

// Every name that phiq may give a file in such a folder.
std::vector<std::string> OwnedFiles();

// The model's graph with what it says of itself, and every constant in its place.
struct PlacedGraph {
  Ir ir;
  std::vector<std::byte> small_constants;  // the first bytes of the .bin file
  std::uint64_t bin_bytes = 0;
  std::vector<PlacedArray> arrays;
};
// `file`   the .bin, as OutputLayout::files will have it.
// Throws   as BuildModelGraph; kUnsupported: what the graph cannot compute.
PlacedGraph PlaceModel(const ModelConfig& config, const Plan& plan, std::size_t file);

// `plan`        decisions about the small files are added to it.
// Throws   kInput: no tokenizer.json or config.json. kBadData: what they or generation_config.json
//          say cannot be. kUnsupported: a tokenizer that has no graph.
OutputLayout MakeLayout(const SideFiles& files, const Model& model, Plan& plan);

}  // namespace phiq::openvino
