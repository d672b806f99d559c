// The two 8-bit floats of checkpoints, exactly as float32.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace phiq {

// Sign, 4 bits of exponent (bias 7), 3 of fraction; no infinity, NaN where all but the sign is set;
// at most 448.
inline float Fp8E4M3ToFloat(std::uint8_t bits) noexcept {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const float sign = (bits & 0x80) != 0 ? -1.0F : 1.0F;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -9);
  return sign * std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
}

// Sign, 5 bits of exponent (bias 15), 2 of fraction; infinity and NaN as IEEE has them.
inline float Fp8E5M2ToFloat(std::uint8_t bits) noexcept {
  const int exponent = bits >> 2 & 31, fraction = bits & 3;
  const float sign = (bits & 0x80) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -16);
  return sign * std::ldexp(static_cast<float>(4 + fraction), exponent - 17);
}

}  // namespace phiq
