// Encoders of the K types: super-blocks of 256 weights whose sub-blocks have small integer scales.
// Each fits its sub-blocks alone, rounds their scales to integers times one half-precision scale,
// then computes the codes again with what was stored.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_scales.h"
#include "kernels/ggml_search.h"
#include "kernels/rounding.h"

namespace phiq {
namespace {

using Codes = std::array<std::uint8_t, 256>;

// Codes of one sub-block under its stored scale and min. A scale of 0 keeps those of the search.
void RecomputeCodes(std::span<const float> x, float scale, float min, int last_code,
                    std::span<std::uint8_t> codes) noexcept {
  if (scale == 0.0F) return;
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] =
        static_cast<std::uint8_t>(std::clamp(NearestInt((x[i] + min) / scale), 0, last_code));
  }
}

// The same for a super-block of symmetric sub-blocks of 16.
void RecomputeSymmetricCodes(std::span<const float, 256> x, std::span<const float, 16> scales,
                             int levels, Codes& codes) noexcept {
  for (std::size_t j = 0; j < 16; ++j) {
    if (scales[j] == 0.0F) continue;
    for (std::size_t i = 16 * j; i < 16 * j + 16; ++i) {
      const int q = std::clamp(NearestInt(x[i] / scales[j]), -levels, levels - 1);
      codes[i] = static_cast<std::uint8_t>(q + levels);
    }
  }
}

// Fits every sub-block, then computes its codes with what is stored. Writes all but the codes.
// `weigh` gives the weights of a sub-block's errors.
template <std::size_t kRun, typename Block, typename Weigh>
Codes EncodeAffine(std::span<const float, 256> x, const AffineGrid& grid, Weigh weigh,
                   Block& block) noexcept {
  constexpr std::size_t kRuns = 256 / kRun;
  Codes codes;
  std::array<float, kRuns> scales;
  std::array<float, kRuns> mins;
  for (std::size_t j = 0; j < kRuns; ++j) {
    const std::span<const float> run = x.subspan(kRun * j, kRun);
    std::array<float, kRun> weights;
    weigh(run, weights);
    const AffineFit fit =
        SearchAffine(run, weights, grid, std::span(codes).subspan(kRun * j, kRun));
    scales[j] = fit.scale;
    mins[j] = fit.min;
  }
  std::array<StoredScale, kRuns> stored;
  StoreAffineScales<Block, kRuns>(scales, mins, block, stored);
  for (std::size_t j = 0; j < kRuns; ++j) {
    RecomputeCodes(x.subspan(kRun * j, kRun), stored[j].scale, stored[j].min, grid.last_code,
                   std::span(codes).subspan(kRun * j, kRun));
  }
  return codes;
}

// Q4_K and Q5_K.
void WeighByRms(std::span<const float> run, std::span<float> weights) noexcept {
  float sum_of_squares = 0.0F;
  for (const float v : run) sum_of_squares += v * v;
  const float rms = std::sqrt(sum_of_squares / 32.0F);
  for (std::size_t i = 0; i < run.size(); ++i) weights[i] = rms + std::abs(run[i]);
}

// Q2_K.
void WeighByMagnitude(std::span<const float> run, std::span<float> weights) noexcept {
  for (std::size_t i = 0; i < run.size(); ++i) weights[i] = std::abs(run[i]);
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
    q[32 * (e / 128) + e % 32] |= static_cast<std::uint8_t>((codes[e] & 3) << (2 * (e % 128 / 32)));
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
  PackPairs(EncodeAffine<16>(x, kQ2Grid, WeighByMagnitude, block), block.q);
}

void EncodeBlock(BlockWeights<BlockQ3_K> x, BlockQ3_K& block) noexcept {
  Codes codes;
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] = DescendSymmetric(x.subspan(16 * j, 16), 4, std::span(codes).subspan(16 * j, 16));
  }
  std::array<float, 16> stored;
  if (StoreSymmetricScales(scales, block, stored)) RecomputeSymmetricCodes(x, stored, 4, codes);
  PackPairs(codes, block.q);
  PackBit(codes, 2, block.hmask);
}

void EncodeBlock(BlockWeights<BlockQ4_K> x, BlockQ4_K& block) noexcept {
  PackNibbles(EncodeAffine<32>(x, kQ4Grid, WeighByRms, block), block.q);
}

void EncodeBlock(BlockWeights<BlockQ5_K> x, BlockQ5_K& block) noexcept {
  const Codes codes = EncodeAffine<32>(x, kQ5Grid, WeighByRms, block);
  PackNibbles(codes, block.q);
  PackBit(codes, 4, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ6_K> x, BlockQ6_K& block) noexcept {
  Codes codes;
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] = SearchSymmetric(x.subspan(16 * j, 16), 32, std::span(codes).subspan(16 * j, 16));
  }
  std::array<float, 16> stored;
  if (!StoreSymmetricScales(scales, block, stored)) return;  // all bytes zero
  RecomputeSymmetricCodes(x, stored, 32, codes);
  for (std::size_t e = 0; e < 256; ++e) {
    const std::size_t half = e / 128;
    const std::size_t k = e % 128 / 32;
    block.ql[64 * half + 32 * (k % 2) + e % 32] |=
        static_cast<std::uint8_t>((codes[e] & 15) << (4 * (k / 2)));
    block.qh[32 * half + e % 32] |= static_cast<std::uint8_t>((codes[e] >> 4) << (2 * k));
  }
}

}  // namespace phiq
