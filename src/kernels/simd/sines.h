// Sines and cosines of many angles, for the processor at run time.
#pragma once

#include <cstddef>

namespace phiq::simd {

// PortableSin or PortableCos (base/portable_math.h) of n angles, as floats.
void SinesOf(const float* angles, std::size_t n, float* out);
void CosinesOf(const float* angles, std::size_t n, float* out);

}  // namespace phiq::simd
