// Codes with biases: what mx.quantize stores, bit for bit.
#include <algorithm>
#include <cmath>

#include "kernels/integer_methods.h"
#include "kernels/mlx_groups.h"

namespace phiq {
namespace {

// The end of the range that has the larger magnitude, and a step whose sign leads from it to the
// other end.
struct Grid {
  float edge;
  float step;
};

Grid GridOf(float last_code, bool as_metal, std::span<const float> x) noexcept {
  constexpr float kLeastStep = 1e-7F;
  const Range range = RangeOf(x);
  // Metal's search for the largest starts at 0.
  const float high = as_metal ? std::max(range.high, 0.0F) : range.high;
  const float step = std::max((high - range.low) / last_code, kLeastStep);
  if (std::abs(range.low) > std::abs(high)) return {range.low, step};
  return {high, -step};
}

}  // namespace

MlxScale QuantizeMlxAffine(int bits, bool as_metal, std::span<const float> x,
                           std::span<std::uint8_t> codes) noexcept {
  const auto last_code = static_cast<float>((1 << bits) - 1);
  const Grid grid = GridOf(last_code, as_metal, x);
  // Code of 0, negated. Of nearly constant groups too large for NearestInt.
  const float quotient = grid.edge / grid.step;
  const float q0 = as_metal ? RoundHalfAwayFloat(quotient) : std::rint(quotient);
  MlxScale group = {grid.step, 0.0F};
  if (q0 != 0.0F) group = {grid.edge / q0, grid.edge};
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  // A scale of 0 (q0 was Inf: a constant above 1e31) or of NaN makes NaNs here, and they code 0.
  if (as_metal) {
    for (std::size_t c = 0; c < x.size(); ++c)
      out[c] = RoundToCode((in[c] - group.bias) / group.scale, last_code);
  } else {
    for (std::size_t c = 0; c < x.size(); ++c)
      out[c] = RoundToEvenCode((in[c] - group.bias) / group.scale, last_code);
  }
  return group;
}

}  // namespace phiq
