#include "engine/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

namespace phiq::engine {
namespace {

std::vector<float> Random(std::mt19937& random, std::size_t n, float size = 1.0F) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(n);
  std::ranges::generate(values, [&] { return normal(random); });
  return values;
}

class KernelsOnEveryTarget : public testing::TestWithParam<const Kernels*> {};

TEST_P(KernelsOnEveryTarget, MultipliesLikePlainLoops) {
  std::mt19937 random(1);
  for (const auto& [n_rows, n_in, n_out] :
       {std::tuple{1, 1, 1}, {3, 7, 5}, {17, 64, 33}, {50, 300, 256}, {64, 1000, 100}}) {
    const auto rows = static_cast<std::size_t>(n_rows);
    const auto in = static_cast<std::size_t>(n_in);
    const auto out = static_cast<std::size_t>(n_out);
    const std::size_t stride = out + 3;  // what lies between the rows stays
    const std::vector<float> x = Random(random, rows * in);
    const std::vector<float> w = Random(random, out * in);
    std::vector<float> y(rows * stride, -7.0F);
    GetParam()->multiply(x.data(), rows, in, w.data(), out, y.data(), stride);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t o = 0; o < out; ++o) {
        double sum = 0;
        double size = 0;
        for (std::size_t i = 0; i < in; ++i) {
          const double term = static_cast<double>(x[r * in + i]) * w[o * in + i];
          sum += term;
          size += std::abs(term);
        }
        // Any order of a float32 sum of n products: n rounding errors of 2^-24 each, at most.
        EXPECT_NEAR(y[r * stride + o], sum, (n_in + 1) * 0x1p-24 * size) << r << " " << o;
      }
      for (std::size_t o = out; o < stride; ++o) EXPECT_EQ(y[r * stride + o], -7.0F);
    }
  }
}

TEST_P(KernelsOnEveryTarget, AttendsToTheWindowOnly) {
  std::mt19937 random(2);
  constexpr std::size_t kPositions = 150;  // more than two blocks of queries
  constexpr std::size_t kDim = 5;
  constexpr std::size_t kStride = 3 * kDim + 1;
  const std::vector<float> qkv = Random(random, kPositions * kStride);
  for (const std::size_t window : {std::size_t{1}, std::size_t{2}, std::size_t{70}, kPositions}) {
    std::vector<float> out(kPositions * kDim);
    std::vector<float> scores(kQueryBlock * kPositions);
    GetParam()->attend({.q = qkv.data(),
                        .k = qkv.data() + kDim,
                        .v = qkv.data() + 2 * kDim,
                        .stride = kStride,
                        .out = out.data(),
                        .out_stride = kDim,
                        .n_positions = kPositions,
                        .head_dim = kDim,
                        .window = window},
                       scores.data());
    for (std::size_t p = 0; p < kPositions; ++p) {
      std::vector<double> expected(kDim);
      double total = 0;
      for (std::size_t s = p + 1 > window ? p + 1 - window : 0; s <= p; ++s) {
        double score = 0;
        for (std::size_t i = 0; i < kDim; ++i)
          score += static_cast<double>(qkv[p * kStride + i]) * qkv[s * kStride + kDim + i];
        const double weight = std::exp(score / std::sqrt(static_cast<double>(kDim)));
        total += weight;
        for (std::size_t i = 0; i < kDim; ++i)
          expected[i] += weight * qkv[s * kStride + 2 * kDim + i];
      }
      // Values of size 1 and weights that add up to 1: some float32 roundings of 6e-8.
      for (std::size_t i = 0; i < kDim; ++i)
        EXPECT_NEAR(out[p * kDim + i], expected[i] / total, 3e-6) << window << " " << p;
    }
  }
}

TEST_P(KernelsOnEveryTarget, NormalizesRotatesAndGates) {
  std::mt19937 random(3);
  for (const std::size_t n : {1U, 2U, 15U, 16U, 17U, 100U}) {
    const std::vector<float> x = Random(random, n, 3.0F);
    const std::vector<float> w = Random(random, n);
    std::vector<float> out(n);
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    GetParam()->rms_norm(x.data(), w.data(), 0.5F, n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = x[i] * w[i] / std::sqrt(squares / static_cast<double>(n) + 0.5);
      EXPECT_NEAR(out[i], expected, 1e-5 * std::abs(expected) + 1e-9);
    }
    GetParam()->swiglu(x.data(), w.data(), n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = x[i] / (1 + std::exp(-static_cast<double>(x[i]))) * w[i];
      EXPECT_NEAR(out[i], expected, 1e-5 * std::abs(expected) + 1e-9);
    }
    out = x;
    GetParam()->add(out.data(), w.data(), n);
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(out[i], x[i] + w[i]);
  }
  // Dimensions 0 and 2, 1 and 3 belong together; 4 is not rotated.
  std::vector<float> head = {1, 2, 3, 4, 5};
  const std::vector<float> cosines = {0, 1};
  const std::vector<float> sines = {1, 0};
  GetParam()->rotate(head.data(), cosines.data(), sines.data(), 2);
  EXPECT_EQ(head, (std::vector<float>{-3, 2, 1, 4, 5}));
}

TEST_P(KernelsOnEveryTarget, FindsWhatIsNotFinite) {
  std::vector<float> x(100, std::numeric_limits<float>::max());
  EXPECT_TRUE(GetParam()->all_finite(x.data(), x.size()));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t at : {0U, 50U, 99U}) {
      std::vector<float> y = x;
      y[at] = bad;
      EXPECT_FALSE(GetParam()->all_finite(y.data(), y.size()));
    }
  }
}

TEST_P(KernelsOnEveryTarget, SumsLogitsInDoublePrecision) {
  std::mt19937 random(4);
  for (const std::size_t n : {1U, 3U, 16U, 255U}) {
    const std::vector<float> p = Random(random, n, 10.0F);
    const std::vector<float> q = Random(random, n, 10.0F);
    const LogitSums sums = GetParam()->sum_logits(p.data(), n);
    const auto best = std::ranges::max_element(p);
    EXPECT_EQ(sums.max_logit, *best);
    EXPECT_EQ(sums.best, best - p.begin());
    double sum_exp = 0;
    double differences = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double e = std::exp(static_cast<double>(p[i]) - sums.max_logit);
      sum_exp += e;
      differences += e * (static_cast<double>(p[i]) - q[i]);
    }
    // Sums of double precision: a few hundred roundings of 1e-16.
    EXPECT_NEAR(sums.sum_exp, sum_exp, 1e-13 * sum_exp);
    EXPECT_NEAR(GetParam()->sum_differences(p.data(), sums.max_logit, q.data(), n), differences,
                1e-12 * (1 + std::abs(differences)));
  }
  const std::vector<float> equal = {1, 5, 5, 2};
  EXPECT_EQ(GetParam()->sum_logits(equal.data(), equal.size()).best, 1U);
}

INSTANTIATE_TEST_SUITE_P(, KernelsOnEveryTarget, testing::ValuesIn(RunnableKernels()),
                         [](const auto& kernels) {
                           std::string name(kernels.param->name);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace phiq::engine
