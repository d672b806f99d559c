// The plan of a folder for transformers and vLLM.
#pragma once

#include <memory>
#include <string>

#include "formats/torch/recipe.h"
#include "phiq/plan.h"

namespace phiq::torch {

struct FolderPlan final : Plan {
  Box box = Box::kPacked;
  std::string version;  // of the phiq that writes it
};

// See Format::plan.
std::unique_ptr<FolderPlan> MakePlan(const Model& model, const PlanOptions& options,
                                     const WarningFn& warn);

}  // namespace phiq::torch
