// Floats of a byte and less: E2M1 and E4M3, which code weights, and E8M0 and E4M3, which are
// scales.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace phiq {

// E2M1: a sign above 3 bits of magnitude.
inline constexpr float kE2m1Values[16] = {0,     0.5,  1,  1.5,  2,  3,  4,  6,
                                          -0.0F, -0.5, -1, -1.5, -2, -3, -4, -6};

// E4M3: 4 bits of exponent (bias 7), 3 of mantissa, no infinities, NaN only 0x7F and 0xFF. In steps
// of 2^-9 below 2^-6; the largest is 448, 0x7E.
inline constexpr std::uint8_t kE4m3Largest = 0x7E;
inline constexpr std::uint8_t kE4m3Nan = 0x7F;

// Rounds to nearest even and cuts to 448. NaN becomes 448 too, as it does in MLX.
inline std::uint8_t FloatToE4m3(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const auto magnitude = static_cast<std::int32_t>(bits & 0x7FFFFFFFU);
  // Floats in [2^14, 2^15) are multiples of 2^-9: the addition rounds to one.
  const std::int32_t subnormal =
      std::bit_cast<std::int32_t>(std::bit_cast<float>(magnitude) + 0x1p14F) -
      std::bit_cast<std::int32_t>(0x1p14F);
  const std::int32_t rounded = magnitude + 0x7FFFF + ((magnitude >> 20) & 1);
  const std::int32_t normal = (rounded - (120 << 23)) >> 20;
  const std::int32_t small = magnitude < (121 << 23) ? subnormal : normal;
  const std::int32_t cut =
      magnitude < std::bit_cast<std::int32_t>(448.0F) ? small : std::int32_t{kE4m3Largest};
  return static_cast<std::uint8_t>(static_cast<std::uint32_t>(cut) | (bits >> 24 & 0x80U));
}

constexpr float E4m3ToFloat(std::uint8_t code) noexcept {
  const std::int32_t magnitude = code & 0x7F;
  const float normal = std::bit_cast<float>((magnitude << 20) + (120 << 23));
  const float finite = magnitude < 8 ? static_cast<float>(magnitude) * 0x1p-9F : normal;
  const float value = magnitude == kE4m3Nan ? std::numeric_limits<float>::quiet_NaN() : finite;
  return code < 0x80 ? value : -value;
}

// The values of all codes, for whoever decodes many.
inline constexpr auto kE4m3Values = [] {
  std::array<float, 256> values{};
  for (std::size_t code = 0; code < values.size(); ++code)
    values[code] = E4m3ToFloat(static_cast<std::uint8_t>(code));
  return values;
}();

// E8M0: 2^(code - 127); 255 is NaN.
inline constexpr std::uint8_t kE8m0Nan = 0xFF;

inline float E8m0ToFloat(std::uint8_t code) noexcept {
  if (code == kE8m0Nan) return std::numeric_limits<float>::quiet_NaN();
  if (code == 0) return 0x1p-127F;  // a subnormal float
  return std::bit_cast<float>(std::uint32_t{code} << 23);
}

// Requires  a power of two that E8M0 has.
inline std::uint8_t FloatToE8m0(float x) noexcept {
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(x) >> 23);  // 0 for 2^-127
}

}  // namespace phiq
