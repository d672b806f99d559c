// The integer scales of super-blocks: how the plain loops and the vector kernels round and pack
// them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/half.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_pack.h"
#include "kernels/ggml_search.h"
#include "kernels/rounding.h"

namespace phiq {

// Integers for the scales (or mins) of all sub-blocks, and the scale they multiply.
template <std::size_t kCount>
struct IntegerScales {
  std::array<std::uint8_t, kCount> integers{};
  Half super_scale = 0;
};

template <std::size_t kCount>
IntegerScales<kCount> RoundScales(std::span<const float, kCount> scales, int largest) noexcept {
  IntegerScales<kCount> rounded;
  const float max_scale = std::max(0.0F, *std::max_element(scales.begin(), scales.end()));
  if (!(max_scale > 0.0F)) return rounded;
  const float inv_scale = static_cast<float>(largest) / max_scale;
  for (std::size_t j = 0; j < kCount; ++j) {
    const auto integer = static_cast<std::uint8_t>(NearestInt(inv_scale * scales[j]));
    rounded.integers[j] = std::min(integer, static_cast<std::uint8_t>(largest));
  }
  rounded.super_scale = FloatToFp16(max_scale / static_cast<float>(largest));
  return rounded;
}

// What an affine sub-block is stored with: x ~= scale * code - min.
struct StoredScale {
  float scale;
  float min;
};

// The largest integer of a scale or min: of Q2_K 15, of Q4_K and Q5_K 63.
template <std::size_t kRuns>
inline constexpr int kLargestInteger = kRuns == 16 ? 15 : 63;

// Scales and mins of a super-block: written to `block`, and as floats in `stored`.
template <typename Block, std::size_t kRuns>
void StoreAffineIntegers(const IntegerScales<kRuns>& s, const IntegerScales<kRuns>& m, Block& block,
                         std::span<StoredScale, kRuns> stored) noexcept {
  block.d = s.super_scale;
  block.dmin = m.super_scale;
  if constexpr (kRuns == 16) {  // Q2_K
    for (std::size_t j = 0; j < 16; ++j)
      block.scales[j] = static_cast<std::uint8_t>(s.integers[j] | (m.integers[j] << 4));
  } else {  // Q4_K, Q5_K
    PackScalesAndMins(s.integers, m.integers, block.scales);
  }
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < kRuns; ++j) {
    stored[j] = {d * static_cast<float>(s.integers[j]), dmin * static_cast<float>(m.integers[j])};
  }
}

template <typename Block, std::size_t kRuns>
void StoreAffineScales(std::span<const float, kRuns> scales, std::span<const float, kRuns> mins,
                       Block& block, std::span<StoredScale, kRuns> stored) noexcept {
  constexpr int kLargest = kLargestInteger<kRuns>;
  StoreAffineIntegers<Block, kRuns>(RoundScales(scales, kLargest), RoundScales(mins, kLargest),
                                    block, stored);
}

// The scales of Q3_K's sub-blocks: written to `block` (whose bytes are zero), and as floats in
// `stored`. False when all are zero: then every code stays that of the search.
inline bool StoreSymmetricScales(std::span<const float, 16> scales, BlockQ3_K& block,
                                 std::span<float, 16> stored) noexcept {
  const float extreme = SignedExtreme(scales);
  if (extreme == 0.0F) return false;
  const float inv_scale = -32.0F / extreme;
  block.d = FloatToFp16(1.0F / inv_scale);
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 16; ++j) {
    const int scale = std::clamp(NearestInt(inv_scale * scales[j]), -32, 31);
    PackQ3Scale(scale, j, block.scales);
    stored[j] = d * static_cast<float>(scale);
  }
  return true;
}

// The same for Q6_K. False when the block is negligible: then all its bytes stay zero.
inline bool StoreSymmetricScales(std::span<const float, 16> scales, BlockQ6_K& block,
                                 std::span<float, 16> stored) noexcept {
  const float extreme = SignedExtreme(scales);
  if (std::abs(extreme) < kNegligible) return false;
  const float inv_scale = -128.0F / extreme;
  block.d = FloatToFp16(1.0F / inv_scale);
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 16; ++j) {
    block.scales[j] = static_cast<std::int8_t>(std::min(127, NearestInt(inv_scale * scales[j])));
    stored[j] = d * static_cast<float>(block.scales[j]);
  }
  return true;
}

// The scales of IQ4_XS's sub-blocks: written to `block` (whose bytes are zero), and as floats in
// `used`, those that codes are made with: of the super-block's scale before it became a half.
inline void StoreIq4Scales(std::span<const float, 8> scales, BlockIQ4_XS& block,
                           std::span<float, 8> used) noexcept {
  const float d = -SignedExtreme(scales) / 32.0F;
  block.d = FloatToFp16(d);
  const float inv_d = InverseOrZero(d);
  for (std::size_t j = 0; j < 8; ++j) {
    const int scale = std::clamp(NearestInt(inv_d * scales[j]), -32, 31);
    PackIq4Scale(scale, j, block);
    used[j] = d * static_cast<float>(scale);
  }
}

}  // namespace phiq
