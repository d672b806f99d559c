// Encoders of the K types: super-blocks of 256 weights whose sub-blocks have small integer scales.
// Each fits its sub-blocks alone, rounds their scales to integers times one half-precision scale,
// then computes the codes again with what was stored.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_search.h"
#include "kernels/rounding.h"

namespace phiq {
namespace {

using Codes = std::array<std::uint8_t, 256>;

// Integers for the scales (or mins) of all sub-blocks, and the scale they multiply.
template <std::size_t kCount>
struct IntegerScales {
  std::array<std::uint8_t, kCount> integers{};
  Half super_scale = 0;
};

template <std::size_t kCount>
IntegerScales<kCount> RoundScales(const std::array<float, kCount>& scales, int largest) noexcept {
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

// Codes of one sub-block under its stored scale and min. A scale of 0 keeps those of the search.
void RecomputeCodes(std::span<const float> x, float scale, float min, int last_code,
                    std::span<std::uint8_t> codes) noexcept {
  if (scale == 0.0F) return;
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] =
        static_cast<std::uint8_t>(std::clamp(NearestInt((x[i] + min) / scale), 0, last_code));
  }
}

void RecomputeSymmetricCodes(std::span<const float> x, float scale, int levels,
                             std::span<std::uint8_t> codes) noexcept {
  if (scale == 0.0F) return;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int q = std::clamp(NearestInt(x[i] / scale), -levels, levels - 1);
    codes[i] = static_cast<std::uint8_t>(q + levels);
  }
}

// Q4_K and Q5_K: eight sub-blocks of 32 with 6-bit scales and mins. Writes all but the codes.
template <typename Block>
Codes EncodeAffine32(std::span<const float, 256> x, const AffineGrid& grid, Block& block) noexcept {
  Codes codes;
  std::array<float, 8> scales;
  std::array<float, 8> mins;
  for (std::size_t j = 0; j < 8; ++j) {
    const std::span<const float> run = x.subspan(32 * j, 32);
    float sum_of_squares = 0.0F;
    for (const float v : run) sum_of_squares += v * v;
    const float rms = std::sqrt(sum_of_squares / 32.0F);
    std::array<float, 32> weights;
    for (std::size_t i = 0; i < 32; ++i) weights[i] = rms + std::abs(run[i]);
    const AffineFit fit = SearchAffine(run, weights, grid, std::span(codes).subspan(32 * j, 32));
    scales[j] = fit.scale;
    mins[j] = fit.min;
  }
  const IntegerScales<8> s = RoundScales(scales, 63);
  const IntegerScales<8> m = RoundScales(mins, 63);
  block.d = s.super_scale;
  block.dmin = m.super_scale;
  for (std::size_t j = 0; j < 4; ++j) {
    const std::uint8_t high_s = s.integers[j + 4];
    const std::uint8_t high_m = m.integers[j + 4];
    block.scales[j] = static_cast<std::uint8_t>(s.integers[j] | ((high_s >> 4) << 6));
    block.scales[j + 4] = static_cast<std::uint8_t>(m.integers[j] | ((high_m >> 4) << 6));
    block.scales[j + 8] = static_cast<std::uint8_t>((high_s & 15) | ((high_m & 15) << 4));
  }
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < 8; ++j) {
    RecomputeCodes(x.subspan(32 * j, 32), d * static_cast<float>(s.integers[j]),
                   dmin * static_cast<float>(m.integers[j]), grid.last_code,
                   std::span(codes).subspan(32 * j, 32));
  }
  return codes;
}

// Low nibbles: 64 codes in 32 bytes, the first 32 in the low halves.
void PackNibbles(const Codes& codes, std::span<std::uint8_t, 128> q) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    q[32 * (e / 64) + e % 32] |= static_cast<std::uint8_t>((codes[e] & 15) << (4 * (e / 32 % 2)));
  }
}

// Two low bits: 128 codes in 32 bytes, 32 to each pair of bits.
void PackPairs(const Codes& codes, std::span<std::uint8_t, 64> q) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    q[32 * (e / 128) + e % 32] |=
        static_cast<std::uint8_t>((codes[e] & 3) << (2 * (e % 128 / 32)));
  }
}

// One bit of each code: bit e / 32 of byte e % 32.
void PackBit(const Codes& codes, int bit, std::span<std::uint8_t, 32> q) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    q[e % 32] |= static_cast<std::uint8_t>(((codes[e] >> bit) & 1) << (e / 32));
  }
}

}  // namespace

void EncodeBlock(BlockWeights<BlockQ2_K> x, BlockQ2_K& block) noexcept {
  constexpr AffineGrid kGrid{3, -0.5F, 0.1F, 15, true};
  Codes codes;
  std::array<float, 16> scales;
  std::array<float, 16> mins;
  for (std::size_t j = 0; j < 16; ++j) {
    const std::span<const float> run = x.subspan(16 * j, 16);
    std::array<float, 16> weights;
    for (std::size_t i = 0; i < 16; ++i) weights[i] = std::abs(run[i]);
    const AffineFit fit = SearchAffine(run, weights, kGrid, std::span(codes).subspan(16 * j, 16));
    scales[j] = fit.scale;
    mins[j] = fit.min;
  }
  const IntegerScales<16> s = RoundScales(scales, 15);
  const IntegerScales<16> m = RoundScales(mins, 15);
  block.d = s.super_scale;
  block.dmin = m.super_scale;
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < 16; ++j) {
    block.scales[j] = static_cast<std::uint8_t>(s.integers[j] | (m.integers[j] << 4));
    RecomputeCodes(x.subspan(16 * j, 16), d * static_cast<float>(s.integers[j]),
                   dmin * static_cast<float>(m.integers[j]), kGrid.last_code,
                   std::span(codes).subspan(16 * j, 16));
  }
  PackPairs(codes, block.q);
}

void EncodeBlock(BlockWeights<BlockQ3_K> x, BlockQ3_K& block) noexcept {
  Codes codes;
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] = DescendSymmetric(x.subspan(16 * j, 16), 4, std::span(codes).subspan(16 * j, 16));
  }
  const float extreme = SignedExtreme(scales);
  if (extreme != 0.0F) {
    const float inv_scale = -32.0F / extreme;
    block.d = FloatToFp16(1.0F / inv_scale);
    const float d = Fp16ToFloat(block.d);
    for (std::size_t j = 0; j < 16; ++j) {
      const int scale = std::clamp(NearestInt(inv_scale * scales[j]), -32, 31);
      const int stored = scale + 32;
      block.scales[j % 8] |= static_cast<std::uint8_t>((stored & 15) << (4 * (j / 8)));
      block.scales[8 + j % 4] |= static_cast<std::uint8_t>((stored >> 4) << (2 * (j / 4)));
      RecomputeSymmetricCodes(x.subspan(16 * j, 16), d * static_cast<float>(scale), 4,
                              std::span(codes).subspan(16 * j, 16));
    }
  }
  PackPairs(codes, block.q);
  PackBit(codes, 2, block.hmask);
}

void EncodeBlock(BlockWeights<BlockQ4_K> x, BlockQ4_K& block) noexcept {
  PackNibbles(EncodeAffine32(x, {15, -1.0F, 0.1F, 20, false}, block), block.q);
}

void EncodeBlock(BlockWeights<BlockQ5_K> x, BlockQ5_K& block) noexcept {
  const Codes codes = EncodeAffine32(x, {31, -0.5F, 0.1F, 15, false}, block);
  PackNibbles(codes, block.q);
  PackBit(codes, 4, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ6_K> x, BlockQ6_K& block) noexcept {
  Codes codes;
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] = SearchSymmetric(x.subspan(16 * j, 16), 32, std::span(codes).subspan(16 * j, 16));
  }
  const float extreme = SignedExtreme(scales);
  if (std::abs(extreme) < kNegligible) return;  // all bytes zero
  const float inv_scale = -128.0F / extreme;
  block.d = FloatToFp16(1.0F / inv_scale);
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 16; ++j) {
    block.scales[j] =
        static_cast<std::int8_t>(std::min(127, NearestInt(inv_scale * scales[j])));
    RecomputeSymmetricCodes(x.subspan(16 * j, 16), d * static_cast<float>(block.scales[j]), 32,
                            std::span(codes).subspan(16 * j, 16));
  }
  for (std::size_t e = 0; e < 256; ++e) {
    const std::size_t half = e / 128;
    const std::size_t k = e % 128 / 32;
    block.ql[64 * half + 32 * (k % 2) + e % 32] |=
        static_cast<std::uint8_t>((codes[e] & 15) << (4 * (k / 2)));
    block.qh[32 * half + e % 32] |= static_cast<std::uint8_t>((codes[e] >> 4) << (2 * k));
  }
}

}  // namespace phiq
