// Blocks of 32 with one scale: from the largest weight or from the range, or by a search where an
// importance matrix says what errors count. Codes use the unrounded scale, as llama-quantize's do.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/half.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_pack.h"
#include "kernels/ggml_search.h"
#include "kernels/rounding.h"

namespace phiq {
namespace {

struct Range {
  float low;
  float high;
};

Range FindRange(std::span<const float> x) noexcept {
  Range range{x[0], x[0]};
  for (const float v : x) {
    range.low = std::min(range.low, v);
    range.high = std::max(range.high, v);
  }
  return range;
}

// codes = (x - origin) / scale + offset, cut to an integer and to `last`. `offset` ends in one half
// and the sum is positive, so cutting rounds to nearest.
void EncodeCodes(std::span<const float, 32> x, float origin, float inv_scale, float offset,
                 int last, std::span<std::uint8_t, 32> codes) noexcept {
  for (std::size_t e = 0; e < 32; ++e) {
    const float v = (x[e] - origin) * inv_scale + offset;
    codes[e] = static_cast<std::uint8_t>(std::min(last, TruncateToInt(v)));
  }
}

std::array<float, 32> ErrorWeights(std::span<const float, 32> x,
                                   const Importance& importance) noexcept {
  std::array<float, 32> weights;
  for (std::size_t i = 0; i < 32; ++i) {
    weights[i] = importance.columns[i] * std::sqrt(importance.row_mean_square + x[i] * x[i]);
  }
  return weights;
}

// Symmetric, of `levels` codes on either side. Returns the scale.
float SearchScale(std::span<const float, 32> x, const Importance& importance, int levels,
                  std::span<std::uint8_t, 32> codes) noexcept {
  return SearchSymmetric(x, ErrorWeights(x, importance), levels, codes);
}

AffineFit SearchRange(std::span<const float, 32> x, const Importance& importance, int last_code,
                      std::span<std::uint8_t, 32> codes) noexcept {
  return SearchAffine(x, ErrorWeights(x, importance), WeightedGrid(last_code), codes);
}

}  // namespace

void EncodeBlock(BlockWeights<BlockQ8_0> x, BlockQ8_0& block) noexcept {
  float amax = 0.0F;
  for (const float v : x) amax = std::max(amax, std::abs(v));
  const float d = amax / 127.0F;
  const float inv_d = InverseOrZero(d);
  block.d = FloatToFp16(d);
  for (std::size_t e = 0; e < 32; ++e) {
    block.q[e] = static_cast<std::int8_t>(RoundHalfAway(x[e] * inv_d));
  }
}

void EncodeBlock(BlockWeights<BlockQ4_0> x, BlockQ4_0& block) noexcept {
  const float d = SignedExtreme(x) / -8.0F;
  block.d = FloatToFp16(d);
  std::uint8_t codes[32];
  EncodeCodes(x, 0.0F, InverseOrZero(d), 8.5F, 15, codes);
  PackCodes(codes, block.q);
}

void EncodeBlock(BlockWeights<BlockQ4_1> x, BlockQ4_1& block) noexcept {
  const Range range = FindRange(x);
  const float d = (range.high - range.low) / 15.0F;
  block.d = FloatToFp16(d);
  block.m = FloatToFp16(range.low);
  std::uint8_t codes[32];
  EncodeCodes(x, range.low, InverseOrZero(d), 0.5F, 15, codes);
  PackCodes(codes, block.q);
}

void EncodeBlock(BlockWeights<BlockQ5_0> x, BlockQ5_0& block) noexcept {
  const float d = SignedExtreme(x) / -16.0F;
  block.d = FloatToFp16(d);
  std::uint8_t codes[32];
  EncodeCodes(x, 0.0F, InverseOrZero(d), 16.5F, 31, codes);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ5_1> x, BlockQ5_1& block) noexcept {
  const Range range = FindRange(x);
  const float d = (range.high - range.low) / 31.0F;
  block.d = FloatToFp16(d);
  block.m = FloatToFp16(range.low);
  std::uint8_t codes[32];
  EncodeCodes(x, range.low, InverseOrZero(d), 0.5F, 31, codes);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ4_0> x, const Importance& importance,
                 BlockQ4_0& block) noexcept {
  std::uint8_t codes[32];
  block.d = FloatToFp16(SearchScale(x, importance, 8, codes));
  PackCodes(codes, block.q);
}

void EncodeBlock(BlockWeights<BlockQ4_1> x, const Importance& importance,
                 BlockQ4_1& block) noexcept {
  std::uint8_t codes[32];
  const AffineFit fit = SearchRange(x, importance, 15, codes);
  block.d = FloatToFp16(fit.scale);
  block.m = FloatToFp16(-fit.min);
  PackCodes(codes, block.q);
}

void EncodeBlock(BlockWeights<BlockQ5_0> x, const Importance& importance,
                 BlockQ5_0& block) noexcept {
  std::uint8_t codes[32];
  block.d = FloatToFp16(SearchScale(x, importance, 16, codes));
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}

void EncodeBlock(BlockWeights<BlockQ5_1> x, const Importance& importance,
                 BlockQ5_1& block) noexcept {
  std::uint8_t codes[32];
  const AffineFit fit = SearchRange(x, importance, 31, codes);
  block.d = FloatToFp16(fit.scale);
  block.m = FloatToFp16(-fit.min);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}

}  // namespace phiq
