// Figures over the tensors of an output.
#include "output_errors.h"

#include <cmath>
#include <cstddef>

namespace phiq::cli {

double MeanRatio(const std::vector<OutputError>& errors) {
  double sum = 0;
  std::size_t n = 0;
  for (const OutputError& error : errors) {
    if (error.error <= 0 || error.reference <= 0) continue;
    sum += std::log(error.error / error.reference);
    ++n;
  }
  return n == 0 ? 1 : std::exp(sum / static_cast<double>(n));
}

}  // namespace phiq::cli
