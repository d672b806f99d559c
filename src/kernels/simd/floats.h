// Vector kernels of plain floats, chosen for the processor at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/simd/weights.h"

namespace phiq::simd {

// n numbers of one type as another, rounded to nearest even: the bits of base/half.h. Of NaN only
// that it stays one, and to kF32 every bit.
void ConvertFloats(const Weights& x, std::size_t n, FloatType type, std::byte* out);

// The largest magnitude; Inf or NaN when one is among them, NaN before Inf. 0 for none.
float LargestMagnitude(const Weights& x, std::size_t n);

// Index of the first NaN or Inf, or x.size().
std::size_t FirstNonFinite(std::span<const float> x);

// The sum of squares of (code - zero_point) * scale - x, each computed in float32, in eight running
// sums; the weights behind the last eight are added to the first of them.
// Shapes    x, codes: [n].
double SumSquaredErrors(std::span<const std::uint8_t> codes, int zero_point, float scale,
                        std::span<const float> x);

}  // namespace phiq::simd
