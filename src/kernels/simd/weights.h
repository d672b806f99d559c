// Weights as kernels take them: floats, or the halves of a checkpoint, which become floats only in
// registers or in the first cache.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/float_type.h"
#include "phiq/encoding.h"

namespace phiq {

// Little-endian numbers of one type, one after the other.
struct Weights {
  FloatType type = FloatType::kF32;
  const std::byte* data = nullptr;

  Weights() = default;
  Weights(FloatType type_of_data, const std::byte* first) noexcept
      : type(type_of_data), data(first) {}
  explicit Weights(const float* first) noexcept : data(reinterpret_cast<const std::byte*>(first)) {}

  Weights From(std::size_t i) const noexcept { return {type, data + i * FloatBytes(type)}; }
};

}  // namespace phiq
