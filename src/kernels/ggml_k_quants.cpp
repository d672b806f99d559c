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

// Under an importance matrix: what the error of each weight of a super-block counts, and the sums
// over its sub-blocks of kRun weights.
template <std::size_t kRun>
struct ErrorWeights {
  std::array<float, 256> weights;
  std::array<float, 256 / kRun> sums{};

  // `times`  of the weights' mean square, which is added to a weight's own.
  ErrorWeights(std::span<const float, 256> x, const float* importance, float times) noexcept {
    float sum_of_squares = 0.0F;
    for (const float v : x) sum_of_squares += v * v;
    const float spread = times * sum_of_squares / 256.0F;
    for (std::size_t i = 0; i < 256; ++i) {
      weights[i] = importance[i] * std::sqrt(spread + x[i] * x[i]);
      sums[i / kRun] += weights[i];
    }
  }
  std::span<const float> Of(std::size_t j) const noexcept {
    return std::span(weights).subspan(kRun * j, kRun);
  }
};

// The integers are fitted then, with the sums as weights.
template <std::size_t kRuns>
IntegerScales<kRuns> FitScales(const std::array<float, kRuns>& scales,
                               const std::array<float, kRuns>& weights) noexcept {
  IntegerScales<kRuns> fitted;
  fitted.super_scale =
      FloatToFp16(SearchPositive(scales, weights, kLargestInteger<kRuns>, fitted.integers));
  return fitted;
}

template <std::size_t kRun, typename Block>
Codes EncodeAffine(std::span<const float, 256> x, const ErrorWeights<kRun>& errors, int last_code,
                   Block& block) noexcept {
  constexpr std::size_t kRuns = 256 / kRun;
  Codes codes;
  std::array<float, kRuns> scales;
  std::array<float, kRuns> mins;
  for (std::size_t j = 0; j < kRuns; ++j) {
    const AffineFit fit =
        SearchAffine(x.subspan(kRun * j, kRun), errors.Of(j), WeightedGrid(last_code),
                     std::span(codes).subspan(kRun * j, kRun));
    scales[j] = fit.scale;
    mins[j] = fit.min;
  }
  std::array<StoredScale, kRuns> stored;
  StoreAffineIntegers<Block, kRuns>(FitScales(scales, errors.sums), FitScales(mins, errors.sums),
                                    block, stored);
  for (std::size_t j = 0; j < kRuns; ++j) {
    RecomputeCodes(x.subspan(kRun * j, kRun), stored[j].scale, stored[j].min, last_code,
                   std::span(codes).subspan(kRun * j, kRun));
  }
  return codes;
}

// Of sub-blocks that were searched.
void StoreQ6(std::span<const float, 256> x, const std::array<float, 16>& scales, Codes& codes,
             BlockQ6_K& block) noexcept {
  std::array<float, 16> stored;
  if (!StoreSymmetricScales(scales, block, stored)) return;  // all bytes zero
  RecomputeSymmetricCodes(x, stored, 32, codes);
  PackSixBits(codes, block);
}

}  // namespace

void EncodeBlock(BlockWeights<BlockQ2_K> x, BlockQ2_K& block) noexcept {
  PackPairs(EncodeAffine<16>(x, kQ2Grid, WeighByMagnitude, block), block.q);
}

void EncodeBlock(BlockWeights<BlockQ2_K> x, const Importance& importance,
                 BlockQ2_K& block) noexcept {
  const ErrorWeights<16> errors(x, importance.columns, 1.0F);
  PackPairs(EncodeAffine(x, errors, 3, block), block.q);
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

void EncodeBlock(BlockWeights<BlockQ3_K> x, const Importance& importance,
                 BlockQ3_K& block) noexcept {
  Codes codes;
  const ErrorWeights<16> errors(x, importance.columns, 2.0F);
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] = SearchSymmetric(x.subspan(16 * j, 16), errors.Of(j), 4,
                                std::span(codes).subspan(16 * j, 16));
  }
  std::array<std::uint8_t, 16> integers;  // 32 stands for 0
  block.d = FloatToFp16(SearchSymmetric(scales, errors.sums, 32, integers));
  const float d = Fp16ToFloat(block.d);
  std::array<float, 16> stored;
  for (std::size_t j = 0; j < 16; ++j) {
    const int scale = static_cast<int>(integers[j]) - 32;
    PackQ3Scale(scale, j, block.scales);
    stored[j] = d * static_cast<float>(scale);
  }
  RecomputeSymmetricCodes(x, stored, 4, codes);
  PackPairs(codes, block.q);
  PackBit(codes, 2, block.hmask);
}

void EncodeBlock(BlockWeights<BlockQ4_K> x, BlockQ4_K& block) noexcept {
  PackNibbles(EncodeAffine<32>(x, kQ4Grid, WeighByRms, block), block.q);
}

void EncodeBlock(BlockWeights<BlockQ4_K> x, const Importance& importance,
                 BlockQ4_K& block) noexcept {
  const ErrorWeights<32> errors(x, importance.columns, 2.0F);
  PackNibbles(EncodeAffine(x, errors, 15, block), block.q);
}

void EncodeBlock(BlockWeights<BlockQ5_K> x, BlockQ5_K& block) noexcept {
  const Codes codes = EncodeAffine<32>(x, kQ5Grid, WeighByRms, block);
  PackNibbles(codes, block.q);
  PackBit(codes, 4, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ5_K> x, const Importance& importance,
                 BlockQ5_K& block) noexcept {
  const ErrorWeights<32> errors(x, importance.columns, 2.0F);
  const Codes codes = EncodeAffine(x, errors, 31, block);
  PackNibbles(codes, block.q);
  PackBit(codes, 4, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ6_K> x, BlockQ6_K& block) noexcept {
  Codes codes;
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] =
        SearchSymmetric(x.subspan(16 * j, 16), {}, 32, std::span(codes).subspan(16 * j, 16));
  }
  StoreQ6(x, scales, codes, block);
}

void EncodeBlock(BlockWeights<BlockQ6_K> x, const Importance& importance,
                 BlockQ6_K& block) noexcept {
  Codes codes;
  std::array<float, 16> scales;
  for (std::size_t j = 0; j < 16; ++j) {
    scales[j] = SearchSymmetric(x.subspan(16 * j, 16), {importance.columns + 16 * j, 16}, 32,
                                std::span(codes).subspan(16 * j, 16));
  }
  StoreQ6(x, scales, codes, block);
}

}  // namespace phiq
