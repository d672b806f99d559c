// What is said of the errors that quantized weights leave in products.
#pragma once

#include <vector>

#include "phiq/convert.h"

namespace phiq::cli {

// What is left of the reference's error.
inline double RatioOf(const OutputError& error) {
  return error.reference > 0 ? error.error / error.reference : 1;
}

// The same of all tensors: geometric mean.
double MeanRatio(const std::vector<OutputError>& errors);

}  // namespace phiq::cli
