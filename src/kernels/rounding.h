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

// Nearest integer, ties away from zero, for every float: what has no fraction stays, and so do NaN
// and Inf. C libraries' round does not agree on 0.49999997.
inline float RoundHalfAwayFloat(float v) noexcept {
  if (!(std::abs(v) < 0x1p23F)) return v;
  const auto whole = static_cast<float>(static_cast<int>(v));
  const float fraction = v - whole;  // exact
  return whole + (fraction >= 0.5F ? 1.0F : 0.0F) - (fraction <= -0.5F ? 1.0F : 0.0F);
}

// Nearest integer, ties away from zero, of v cut to [0, top]; 0 for NaN. Requires top <= 255.
// The addend is the float below 0.5: with 0.5 itself 0.49999997 would round up. Both sides are step
// functions of v, and tests/kernels/rounding_test.cpp compares them on both sides of every step.
inline std::uint8_t RoundToCode(float v, float top) noexcept {
  const float low = v > 0.0F ? v : 0.0F;
  return static_cast<std::uint8_t>(static_cast<int>((low < top ? low : top) + 0.49999997F));
}

// Nearest integer, ties to even, of v cut to [0, top]; 0 for NaN. Requires top <= 255.
inline std::uint8_t RoundToEvenCode(float v, float top) noexcept {
  const float low = v > 0.0F ? v : 0.0F;
  return static_cast<std::uint8_t>(NearestInt(low < top ? low : top));
}
inline std::uint8_t RoundToEvenCode(double v, double top) noexcept {
  const double low = v > 0.0 ? v : 0.0;
  const double rounded = ((low < top ? low : top) + 0x1.8p52) - 0x1.8p52;  // as NearestInt does
  return static_cast<std::uint8_t>(static_cast<int>(rounded));
}

// FloatToFp16 and back, without branches so that loops over rows stay fast. NaN becomes Inf.
inline float RoundToHalf(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::int32_t magnitude = static_cast<std::int32_t>(bits & 0x7FFFFFFFU);
  const std::int32_t normal = (magnitude + 0xFFF + ((magnitude >> 13) & 1)) & ~0x1FFF;
  // Below 2^-14 halves are multiples of 2^-24; so are floats in [0.5, 1].
  const float subnormal = (std::bit_cast<float>(magnitude) + 0.5F) - 0.5F;
  const std::int32_t finite =
      magnitude < 0x38800000 ? std::bit_cast<std::int32_t>(subnormal) : normal;
  const std::int32_t rounded = finite < 0x47800000 ? finite : 0x7F800000;  // 65536 and above
  return std::bit_cast<float>(static_cast<std::uint32_t>(rounded) | (bits & 0x80000000U));
}

// FloatToBf16 and back. NaN becomes anything.
inline float RoundToBf16(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U);
}

inline constexpr float kLeastHalf = 0x1p-24F;  // above 0

// A double to the nearest half in one rounding: through float it would be two.
inline float RoundToHalf(double x) noexcept {
  const float nearest = static_cast<float>(x);
  const double lost = x - static_cast<double>(nearest);
  std::uint32_t bits = std::bit_cast<std::uint32_t>(nearest);
  // Round to odd: an inexact float gets a last bit of 1, so that no half-way case is made up.
  if (lost != 0.0 && (bits & 1U) == 0U) {
    const bool is_too_large = (lost < 0.0) != (nearest < 0.0F);
    bits += is_too_large ? ~std::uint32_t{0} : std::uint32_t{1};
  }
  return RoundToHalf(std::bit_cast<float>(bits));
}

}  // namespace phiq
