// Looking for NaN and Inf.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phiq {

inline bool IsFinite(float x) noexcept {
  return (std::bit_cast<std::uint32_t>(x) & 0x7F800000U) != 0x7F800000U;
}

// Index of the first NaN or Inf, or x.size().
inline std::size_t FirstNonFinite(std::span<const float> x) noexcept {
  // Whole blocks first: a reduction without an early exit is one that compilers vectorize.
  constexpr std::size_t kBlock = 256;
  std::size_t i = 0;
  for (; i + kBlock <= x.size(); i += kBlock) {
    std::uint32_t any = 0;  // as wide as the weights: narrower flags would have to be repacked
    for (std::size_t j = 0; j < kBlock; ++j) any |= IsFinite(x[i + j]) ? 0U : ~0U;
    if (any != 0) break;
  }
  while (i < x.size() && IsFinite(x[i])) ++i;
  return i;
}

}  // namespace phiq
