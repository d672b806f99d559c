// The planners, one a format; MakePlan calls the right one.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "phiq/plan.h"

namespace phiq {

Plan MakeGgufPlan(const Model& model, const PlanOptions& options, const WarningFn& warn);
Plan MakeOnnxPlan(const Model& model, const PlanOptions& options, const WarningFn& warn);
Plan MakeOpenVinoPlan(const Model& model, const PlanOptions& options, const WarningFn& warn,
                      std::span<const float> int8_errors);

Plan MakeMlxPlan(const Model& model, const PlanOptions& options, const WarningFn& warn);

// See TensorsToRank.
std::vector<std::size_t> OpenVinoTensorsToRank(const Model& model, const PlanOptions& options);

}  // namespace phiq
