// Encoders of IQ4_NL and IQ4_XS: four-bit codes that index a fixed table of uneven steps.
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

// Half way between neighbours of the table; exact in float.
constexpr std::array<float, 15> kMidpoints = [] {
  std::array<float, 15> midpoints{};
  for (std::size_t i = 0; i < midpoints.size(); ++i) {
    midpoints[i] = 0.5F * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]);
  }
  return midpoints;
}();

// The nearest table entry; the upper one on ties.
std::uint8_t NearestEntry(float v) noexcept {
  int index = 0;
  for (const float midpoint : kMidpoints) index += static_cast<int>(v >= midpoint);
  return static_cast<std::uint8_t>(index);
}

struct Fit {
  float xq;
  float qq;
};

using ErrorWeights = std::array<float, 32>;

// Least-squares sums for the codes that inv_scale gives.
Fit FitCodes(std::span<const float, 32> x, const ErrorWeights& weights, float inv_scale) noexcept {
  std::array<float, 32> values;
  for (std::size_t i = 0; i < 32; ++i) {
    values[i] = static_cast<float>(kIq4Values[NearestEntry(inv_scale * x[i])]);
  }
  Fit fit{0.0F, 0.0F};
  for (std::size_t i = 0; i < 32; ++i) {
    fit.xq += weights[i] * values[i] * x[i];
    fit.qq += weights[i] * values[i] * values[i];
  }
  return fit;
}

ErrorWeights Squares(std::span<const float, 32> x) noexcept {
  ErrorWeights weights;
  for (std::size_t i = 0; i < 32; ++i) weights[i] = x[i] * x[i];
  return weights;
}

// Under an importance matrix; `block` is what x is a part of.
ErrorWeights Weigh(std::span<const float, 32> x, std::span<const float> block,
                   const float* importance) noexcept {
  float spread = 0.0F;
  for (const float v : block) spread += v * v;
  spread *= 2.0F / static_cast<float>(block.size());
  ErrorWeights weights;
  for (std::size_t i = 0; i < 32; ++i) weights[i] = importance[i] * std::sqrt(spread + x[i] * x[i]);
  return weights;
}

// One scale with the extreme on the table's positive end, then fifteen with it near the negative.
float SearchScale(std::span<const float, 32> x, const ErrorWeights& weights) noexcept {
  const float extreme = SignedExtreme(x);
  if (std::abs(extreme) < kNegligible) return 0.0F;
  constexpr float kLowest = kIq4Values[0];
  const Fit first = FitCodes(x, weights, 1.0F / (-extreme / kLowest));
  float scale = first.qq > 0.0F ? first.xq / first.qq : 0.0F;
  float best_gain = scale * first.xq;
  for (int step = -7; step <= 7; ++step) {
    const Fit fit = FitCodes(x, weights, (static_cast<float>(step) + kLowest) / extreme);
    if (fit.qq > 0.0F && fit.xq * fit.xq > best_gain * fit.qq) {
      scale = fit.xq / fit.qq;
      best_gain = scale * fit.xq;
    }
  }
  return scale;
}

void EncodeCodes(std::span<const float, 32> x, float inv_scale,
                 std::span<std::uint8_t, 16> q) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    q[i] = static_cast<std::uint8_t>(NearestEntry(inv_scale * x[i]) |
                                     (NearestEntry(inv_scale * x[i + 16]) << 4));
  }
}

void Store(std::span<const float, 32> x, float scale, BlockIQ4_NL& block) noexcept {
  block.d = FloatToFp16(scale);
  EncodeCodes(x, InverseOrZero(scale), block.q);
}

void Store(std::span<const float, 256> x, const std::array<float, 8>& scales,
           BlockIQ4_XS& block) noexcept {
  std::array<float, 8> used;
  StoreIq4Scales(scales, block, used);
  for (std::size_t j = 0; j < 8; ++j) {
    EncodeCodes(x.subspan(32 * j).first<32>(), InverseOrZero(used[j]),
                std::span(block.q).subspan(16 * j).first<16>());
  }
}

}  // namespace

void EncodeBlock(BlockWeights<BlockIQ4_NL> x, BlockIQ4_NL& block) noexcept {
  Store(x, SearchScale(x, Squares(x)), block);
}

void EncodeBlock(BlockWeights<BlockIQ4_NL> x, const Importance& importance,
                 BlockIQ4_NL& block) noexcept {
  Store(x, SearchScale(x, Weigh(x, x, importance.columns)), block);
}

void EncodeBlock(BlockWeights<BlockIQ4_XS> x, BlockIQ4_XS& block) noexcept {
  std::array<float, 8> scales;
  for (std::size_t j = 0; j < 8; ++j) {
    const std::span<const float, 32> run = x.subspan(32 * j).first<32>();
    scales[j] = SearchScale(run, Squares(run));
  }
  Store(x, scales, block);
}

void EncodeBlock(BlockWeights<BlockIQ4_XS> x, const Importance& importance,
                 BlockIQ4_XS& block) noexcept {
  std::array<float, 8> scales;
  for (std::size_t j = 0; j < 8; ++j) {
    const std::span<const float, 32> run = x.subspan(32 * j).first<32>();
    scales[j] = SearchScale(run, Weigh(run, x, importance.columns + 32 * j));
  }
  Store(x, scales, block);
}

}  // namespace phiq
