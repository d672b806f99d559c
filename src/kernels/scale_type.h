// Arrays of scales in byte buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/float_type.h"
#include "kernels/small_floats.h"
#include "phiq/encoding.h"

namespace phiq {

// Requires  a type that is no single byte.
constexpr FloatType AsFloatType(ScaleType type) noexcept { return static_cast<FloatType>(type); }
static_assert(AsFloatType(ScaleTypeOf(FloatType::kBF16)) == FloatType::kBF16);

constexpr bool IsByte(ScaleType type) noexcept {
  return type == ScaleType::kE8M0 || type == ScaleType::kE4M3;
}

constexpr std::size_t ScaleBytes(ScaleType type) noexcept {
  return IsByte(type) ? 1 : FloatBytes(AsFloatType(type));
}

// Rounds to nearest even; E8M0 takes powers of two only, and E4M3 keeps NaN.
inline void StoreScale(ScaleType type, float value, std::span<std::byte> array,
                       std::size_t i) noexcept {
  if (type == ScaleType::kE8M0) {
    array[i] = std::byte{FloatToE8m0(value)};
  } else if (type == ScaleType::kE4M3) {
    array[i] = std::byte{value == value ? FloatToE4m3(value) : kE4m3Nan};
  } else {
    StoreFloat(AsFloatType(type), value, array, i);
  }
}

inline float LoadScale(ScaleType type, std::span<const std::byte> array, std::size_t i) noexcept {
  if (!IsByte(type)) return LoadFloat(AsFloatType(type), array, i);
  const auto byte = std::to_integer<std::uint8_t>(array[i]);
  return type == ScaleType::kE8M0 ? E8m0ToFloat(byte) : E4m3ToFloat(byte);
}

}  // namespace phiq
