// Float to integer, defined for every float; sane values round as the formats prescribe.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace phiq {

// Nearest integer, ties to even, for |v| < 2^22: the sum has no fraction bits left, so the
// addition rounds. Anything else (NaN and Inf too) gives some integer in [-2^22, 2^22).
inline int NearestInt(float v) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(v + 12582912.0F);  // 1.5 * 2^23
  return static_cast<int>(bits & 0x007FFFFFU) - 0x00400000;
}

// Towards zero. 0 where a cast would be undefined: 1/scale overflows for denormal weights.
inline int TruncateToInt(float v) noexcept {
  return std::abs(v) < 0x1p31F ? static_cast<int>(v) : 0;
}

// Nearest integer, ties away from zero, for |v| < 2^22; 0 for anything else.
inline int RoundHalfAway(float v) noexcept {
  if (!(std::abs(v) < 0x1p22F)) return 0;
  const int whole = static_cast<int>(v);
  const float fraction = v - static_cast<float>(whole);  // exact
  return whole + static_cast<int>(fraction >= 0.5F) - static_cast<int>(fraction <= -0.5F);
}

}  // namespace phiq
