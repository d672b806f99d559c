// Arithmetic on numbers that come from files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace phiq {

inline std::optional<std::uint64_t> CheckedMul(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

inline std::optional<std::uint64_t> CheckedAdd(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

// Product of all dimensions; 1 for a scalar. nullopt when it does not fit, even if a dimension is
// 0.
inline std::optional<std::uint64_t> CheckedProduct(std::span<const std::uint64_t> shape) noexcept {
  std::uint64_t product = 1;
  bool has_zero = false;
  for (const std::uint64_t dim : shape) {
    if (dim == 0) {
      has_zero = true;
      continue;
    }
    const std::optional<std::uint64_t> next = CheckedMul(product, dim);
    if (!next) return std::nullopt;
    product = *next;
  }
  return has_zero ? 0 : product;
}

// x rounded up to a multiple of `alignment` (a power of two); nullopt when that does not fit.
inline std::optional<std::uint64_t> AlignUp(std::uint64_t x, std::uint64_t alignment) noexcept {
  if (x > UINT64_MAX - (alignment - 1)) return std::nullopt;
  return (x + alignment - 1) & ~(alignment - 1);
}

}  // namespace phiq
