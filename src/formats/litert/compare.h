// What a LiteRT file says besides its weights, compared with what phiq writes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "formats/litert/layout.h"
#include "formats/litert/reader.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::litert {

// Whether phiq wrote it.
bool IsOurs(const File& file) noexcept;

// What phiq recorded of how it made the file.
Facts FactsOf(const File& file);

// The plan that the file would have been written for; lines of the weights that it holds.
//
// Throws   kBadData: no signatures as phiq writes them, or one with a cache of no such length.
GraphPlan PlanOf(const File& file, const ModelConfig& config);

// In what the file's graph is not the one that plan and configuration give; empty: nowhere. What
// the file says of who wrote it, and the values of its weights, are not compared.
std::vector<std::string> CompareGraphs(const File& file, const ModelConfig& config,
                                       const GraphPlan& plan);

// As StoredModel::FindDifferences, of a file that phiq wrote.
std::vector<std::string> FindDifferences(const File& file, const Model& source,
                                         const SideFiles& files);

}  // namespace phiq::litert
