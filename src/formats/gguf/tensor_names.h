// What llama.cpp calls the weights.
#pragma once

#include <cstdint>
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

// "blk.12.attn_norm.weight" gives 13, other names 0: how many layers a file has that does not say.
std::uint32_t LayersBefore(std::string_view name);

}  // namespace phiq::gguf
