// Attention, norms, rotation and gates on every instruction set.
#include "engine/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "base/portable_math.h"
#include "testing/every_target.h"

namespace phiq::engine {
namespace {

std::vector<float> Random(std::mt19937& random, std::size_t n, float size = 1.0F) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(n);
  std::ranges::generate(values, [&] { return normal(random); });
  return values;
}

class KernelsOnEveryTarget : public testing::OnEveryTarget {};

TEST_P(KernelsOnEveryTarget, AttendsToTheWindowOnly) {
  std::mt19937 random(2);
  constexpr std::size_t kPositions = 150;  // more than two blocks of queries
  constexpr std::size_t kDim = 5;
  constexpr std::size_t kStride = 3 * kDim + 1;
  const std::vector<float> qkv = Random(random, kPositions * kStride);
  for (const std::size_t window : {std::size_t{1}, std::size_t{2}, std::size_t{70}, kPositions}) {
    std::vector<float> out(kPositions * kDim);
    std::vector<float> scores(kQueryBlock * kPositions);
    Attend({.q = qkv.data(),
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
    RmsNorm(x.data(), w.data(), 0.5F, n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = x[i] * w[i] / std::sqrt(squares / static_cast<double>(n) + 0.5);
      EXPECT_NEAR(out[i], expected, 1e-5 * std::abs(expected) + 1e-9);
    }
    SwiGlu(x.data(), w.data(), n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = x[i] / (1 + std::exp(-static_cast<double>(x[i]))) * w[i];
      EXPECT_NEAR(out[i], expected, 1e-5 * std::abs(expected) + 1e-9);
    }
    out = x;
    Add(out.data(), w.data(), n);
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(out[i], x[i] + w[i]);
  }
  // Dimensions 0 and 2, 1 and 3 belong together; 4 is not rotated.
  std::vector<float> head = {1, 2, 3, 4, 5};
  const std::vector<float> cosines = {0, 1};
  const std::vector<float> sines = {1, 0};
  Rotate(head.data(), cosines.data(), sines.data(), 2);
  EXPECT_EQ(head, (std::vector<float>{-3, 2, 1, 4, 5}));
}

TEST_P(KernelsOnEveryTarget, FindsWhatIsNotFinite) {
  std::vector<float> x(100, std::numeric_limits<float>::max());
  EXPECT_TRUE(AllFinite(x.data(), x.size()));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t at : {0U, 50U, 99U}) {
      std::vector<float> y = x;
      y[at] = bad;
      EXPECT_FALSE(AllFinite(y.data(), y.size()));
    }
  }
}

TEST_P(KernelsOnEveryTarget, SumsLogitsInDoublePrecision) {
  std::mt19937 random(4);
  for (const std::size_t n : {1U, 3U, 16U, 255U}) {
    const std::vector<float> p = Random(random, n, 10.0F);
    const std::vector<float> q = Random(random, n, 10.0F);
    const LogitSums sums = SumLogits(p.data(), n);
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
    EXPECT_NEAR(SumDifferences(p.data(), sums.max_logit, q.data(), n), differences,
                1e-12 * (1 + std::abs(differences)));
  }
  const std::vector<float> equal = {1, 5, 5, 2};
  EXPECT_EQ(SumLogits(equal.data(), equal.size()).best, 1U);
}

// One unit in the last place of a float result: 2^-23 of the power of two at or below it, and
// 2^-149 at least.
double UnitOf(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0, std::max(exponent - 24, -149));
}

TEST_P(KernelsOnEveryTarget, TakesExponentialsToTheLastPlace) {
  std::vector<float> x;
  // From -104, where it is 0, to 89, where it is infinite, 2^-10 apart, and around 0.
  for (float v = -104; v < 89; v += 0x1p-10F) x.push_back(v);
  for (float v = 0x1p-30F; v < 1; v *= 1.01F) x.insert(x.end(), {v, -v});
  std::vector<float> y(x.size());
  Exponentials(x.data(), x.size(), y.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    if (expected > std::numeric_limits<float>::max()) {
      ASSERT_GE(y[i], std::numeric_limits<float>::max()) << x[i];
    } else {
      ASSERT_LE(std::abs(y[i] - expected), 1.5 * UnitOf(expected)) << x[i];
    }
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> edges = {0.0F,      -0.0F,   88.8F,  1e30F,
                                    kInfinity, -104.0F, -1e30F, -kInfinity};
  std::vector<float> out(edges.size());
  Exponentials(edges.data(), edges.size(), out.data());
  EXPECT_EQ(out, (std::vector<float>{1, 1, kInfinity, kInfinity, kInfinity, 0, 0, 0}));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Exponentials(&nan, 1, out.data());
  EXPECT_TRUE(std::isnan(out[0]));
}

// Everything that the kernels give, of arrays of n numbers that begin `misaligned` floats behind
// where the allocator put them.
std::vector<double> AllResults(std::size_t n, std::size_t misaligned) {
  std::mt19937 random(5);
  std::vector<double> results;
  const auto input = [&](float size, std::size_t n_values) {
    std::vector<float> values = Random(random, n_values, size);
    values.insert(values.begin(), misaligned, 0.0F);
    return values;
  };
  std::vector<float> x = input(5.0F, n);
  const std::vector<float> w = input(1.0F, n);
  std::vector<float> out(n + misaligned);
  float* const to = out.data() + misaligned;
  const auto keep = [&](const float* values) { results.insert(results.end(), values, values + n); };
  RmsNorm(x.data() + misaligned, w.data() + misaligned, 1e-5F, n, to);
  keep(to);
  SwiGlu(x.data() + misaligned, w.data() + misaligned, n, to);
  keep(to);
  Exponentials(x.data() + misaligned, n, to);
  keep(to);
  const LogitSums sums = SumLogits(x.data() + misaligned, n);
  results.insert(results.end(),
                 {sums.max_logit, static_cast<double>(sums.best), sums.sum_exp,
                  SumDifferences(x.data() + misaligned, sums.max_logit, w.data() + misaligned, n)});
  Rotate(x.data() + misaligned, w.data() + misaligned, to, n / 2);
  keep(x.data() + misaligned);
  // n positions of one head, whose rows are apart by an odd number of floats.
  constexpr std::size_t kDim = 5;
  const std::vector<float> qkv = input(1.0F, n * 3 * kDim);
  std::vector<float> attended(misaligned + n * kDim);
  std::vector<float> scores(kQueryBlock * n);
  const float* const q = qkv.data() + misaligned;
  Attend({.q = q,
          .k = q + kDim,
          .v = q + 2 * kDim,
          .stride = 3 * kDim,
          .out = attended.data() + misaligned,
          .out_stride = kDim,
          .n_positions = n,
          .head_dim = kDim,
          .window = 50},
         scores.data());
  results.insert(results.end(), attended.begin() + static_cast<std::ptrdiff_t>(misaligned),
                 attended.end());
  return results;
}

TEST(Kernels, GiveTheSameBitsOnEveryTargetAndAtEveryAddress) {
  for (const std::size_t n : {1U, 2U, 7U, 15U, 16U, 17U, 33U, 100U, 257U}) {
    const std::vector<double> expected = AllResults(n, 0);
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      const testing::ChosenTarget chosen(target);
      for (const std::size_t misaligned : {0U, 1U, 3U})
        EXPECT_EQ(AllResults(n, misaligned), expected)
            << hwy::TargetName(target) << " " << n << " " << misaligned;
    }
  }
}

// The kernels' exponential in double precision is the scalar one: with one logit 0 above another,
// the sum is 1 + e^x.
TEST_P(KernelsOnEveryTarget, TakesDoubleExponentialsAsScoringDoes) {
  std::mt19937 random(6);
  std::uniform_real_distribution<float> uniform(-750, 0);
  for (int i = 0; i < 10'000; ++i) {
    const float p[2] = {i % 2 == 0 ? uniform(random) : uniform(random) / 750, 0};
    const float q[2] = {p[0] - 1, 0};  // differences 1 (or near it) and 0
    EXPECT_EQ(SumDifferences(p, 0.0F, q, 2),
              PortableExp(static_cast<double>(p[0])) * (static_cast<double>(p[0]) - q[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(, KernelsOnEveryTarget,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq::engine
