// What llama.cpp calls the weights.
#pragma once

#include <string>
#include <string_view>

#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::gguf {

inline constexpr std::string_view kLongFactorsName = "rope_factors_long.weight";
inline constexpr std::string_view kShortFactorsName = "rope_factors_short.weight";

// Of a weight ("output.weight"), and of a plan line, which may be a table.
// Throws   kInternal: GGUF has no such tensor.
std::string TensorName(WeightId weight);
std::string TensorName(const PlanLine& line);

}  // namespace phiq::gguf
