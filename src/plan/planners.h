// The planners, one a format; MakePlan calls the right one.
#pragma once

#include <span>

#include "phiq/plan.h"

namespace phiq {

Plan MakeGgufPlan(const Model& model, std::span<const SourceTensor> tensors,
                  const PlanOptions& options, const WarningFn& warn);
Plan MakeOnnxPlan(const Model& model, std::span<const SourceTensor> tensors,
                  const PlanOptions& options, const WarningFn& warn);

}  // namespace phiq
