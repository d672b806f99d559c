// The plan of an MLX folder.
#pragma once

#include <memory>
#include <optional>

#include "phiq/plan.h"

namespace phiq::mlx {

// What a folder says of its quantized tensors, besides the lines.
struct FolderPlan final : Plan {
  // What tensors without an entry of their own have; nullopt: nothing is quantized.
  std::optional<GroupEncoding> common;
  bool lists_all = false;  // every quantized tensor has an entry (recipes)
};

// See Format::plan.
std::unique_ptr<FolderPlan> MakePlan(const Model& model, const PlanOptions& options,
                                     const WarningFn& warn);

}  // namespace phiq::mlx
