// The plan of a LiteRT file.
#pragma once

#include <memory>

#include "formats/litert/model_graph.h"
#include "phiq/error.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::litert {

struct GraphPlan final : Plan {
  GraphChoices graph;
};

// See Format::plan.
std::unique_ptr<GraphPlan> MakePlan(const Model& model, const PlanOptions& options,
                                    const WarningFn& warn);

// The lengths of prompts' pieces that a cache of so many tokens is made for: all but those that do
// not divide it.
std::vector<std::uint32_t> PrefillLengths(std::uint32_t cache_length);

// Whether a file with a cache of so many tokens has the long rotary factors.
bool NeedsLongFactors(const ModelConfig& config, std::uint32_t cache_length) noexcept;

}  // namespace phiq::litert
