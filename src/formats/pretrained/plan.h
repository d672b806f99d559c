// The plan of a checkpoint: every tensor is floats.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "phiq/encoding.h"
#include "phiq/plan.h"

namespace phiq::pretrained {

struct Type {
  std::string_view name;
  std::string_view description;
  std::optional<FloatType> floats;  // nullopt: each tensor's own
};

// The type that nothing is lost with.
inline constexpr std::string_view kAsTheyAre = "as-is";

// Largest first.
std::span<const Type> Types() noexcept;
// By name, any case. Throws kUsage (with a suggestion).
const Type& FindType(std::string_view name);

// See Format::plan. A matrix of several experts is a line for each.
std::unique_ptr<Plan> MakePlan(const Model& model, const PlanOptions& options);

}  // namespace phiq::pretrained
