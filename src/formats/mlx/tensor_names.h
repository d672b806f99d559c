// What mlx-lm calls the weights.
#pragma once

#include <string>

#include "phiq/model.h"

namespace phiq::mlx {

// The checkpoint's name, but of experts, which stand in a module of mlx-lm's own.
std::string TensorName(WeightId id, const std::string& checkpoint_name);

}  // namespace phiq::mlx
