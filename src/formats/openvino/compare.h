// Holds a folder against what phiq would write.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/openvino/layout.h"
#include "formats/openvino/reader.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::openvino {

// The plan line that a weight of a folder would have been written for.
PlanLine LineOf(const Weight& weight);

// Layers that the two graphs do not have alike: types, attributes, edges, shapes, and the bytes of
// small constants unless `may_differ` says that a constant's may. Where the bytes stand is the
// layout's business.
std::vector<std::string> CompareGraphs(const PlacedGraph& expected, const Folder& folder,
                                       const std::function<bool(std::string_view)>& may_differ);

// What phiq wrote of how it was made: {"phiq.nan_policy", "zero"}.
Facts FactsOf(const Folder& folder);

// Everything but the weights: the graph for encodings as they were found, what the model says of
// itself, and the files beside it.
std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model);

}  // namespace phiq::openvino
