// Arrays of a FloatType in byte buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/endian.h"
#include "base/half.h"
#include "phiq/encoding.h"

namespace phiq {

constexpr std::size_t FloatBytes(FloatType type) noexcept {
  return type == FloatType::kF32 ? sizeof(float) : sizeof(std::uint16_t);
}

// Rounds to nearest even.
inline void StoreFloat(FloatType type, float value, std::span<std::byte> array,
                       std::size_t i) noexcept {
  switch (type) {
    case FloatType::kF32:
      return StoreLe(value, array, 4 * i);
    case FloatType::kF16:
      return StoreLe(FloatToFp16(value), array, 2 * i);
    case FloatType::kBF16:
      return StoreLe(FloatToBf16(value), array, 2 * i);
  }
}

inline float LoadFloat(FloatType type, std::span<const std::byte> array, std::size_t i) noexcept {
  switch (type) {
    case FloatType::kF32:
      return LoadLe<float>(array, 4 * i);
    case FloatType::kF16:
      return Fp16ToFloat(LoadLe<std::uint16_t>(array, 2 * i));
    case FloatType::kBF16:
      return Bf16ToFloat(LoadLe<std::uint16_t>(array, 2 * i));
  }
  return 0.0F;
}

}  // namespace phiq
