// Factors of moments against Eigen in double.
#include "calibrate/factor.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "testing/every_target.h"

namespace phiq::calibrate {
namespace {

using Double = Eigen::MatrixXd;

Eigen::Index Index(std::size_t i) { return static_cast<Eigen::Index>(i); }

// Moments of fewer tokens than columns, some columns much larger; below the diagonal, nonsense.
engine::Matrix Moments(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const std::size_t n_tokens = n / 2 + 1;
  std::vector<float> x(n_tokens * n);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = normal(random) * (i % n % 17 == 3 ? 30.0F : 1);
  engine::Matrix h;
  h.Resize(n, n);
  std::ranges::fill(h.values, 0.0F);
  engine::AddMoments({}, x.data(), n, n_tokens, h);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < r; ++c) h.Row(r)[c] = std::numeric_limits<float>::quiet_NaN();
  return h;
}

void Set(engine::Matrix& h, std::size_t r, std::size_t c, float value) {
  h.Row(std::min(r, c))[std::max(r, c)] = value;
}

// H'' as the header defines it.
Double Prepared(const engine::Matrix& h, double shrink, double damping = 0.002) {
  const std::size_t n = h.n_rows;
  double sum = 0, n_used = 0;
  for (std::size_t c = 0; c < n; ++c) {
    sum += h.Row(c)[c];
    n_used += h.Row(c)[c] > 0 ? 1 : 0;
  }
  Double prepared(Index(n), Index(n));
  for (std::size_t r = 0; r < n; ++r) {
    for (std::size_t c = 0; c < n; ++c) {
      const double value = h.Row(std::min(r, c))[std::max(r, c)];
      prepared(Index(r), Index(c)) =
          r == c ? value + damping * (sum / n_used) : (1 - shrink) * value;
    }
  }
  return prepared;
}

Double UpperOf(const engine::Matrix& u) {
  Double upper = Double::Zero(Index(u.n_rows), Index(u.n_rows));
  for (std::size_t r = 0; r < u.n_rows; ++r)
    for (std::size_t c = r; c < u.n_rows; ++c) upper(Index(r), Index(c)) = u.Row(r)[c];
  return upper;
}

// transposed(U) U is unique among upper triangles with a positive diagonal. In double the factor
// is exact for what floats can show: what is lost is that the float32 factorization is the exact
// one of a matrix within (n + 1) 2^-24 |R||R'| of H'' (linear_algebra.h), and each entry of
// |R||R'| is at most the square root of its two diagonal entries. As H'' >= 0.2 diagonal + ...,
// U H'' U' = I moves by no more than (n + 1) 2^-24 / 0.2 times n, on average much less.
class Factors : public ::testing::TestWithParam<std::size_t> {};

TEST_P(Factors, AreThoseOfTheInverse) {
  const std::size_t n = GetParam();
  engine::Matrix h = Moments(n, 1);
  const Double prepared = Prepared(h, 0.2);
  ASSERT_TRUE(FactorMoments({.threads = 2}, 0.2F, h));
  const Double u = UpperOf(h);
  const Double rest = u * prepared * u.transpose() - Double::Identity(Index(n), Index(n));
  const auto size = static_cast<double>(n);
  EXPECT_LE(rest.cwiseAbs().maxCoeff(), (size + 1) * 0x1p-24 / 0.2 * std::sqrt(size));
}

INSTANTIATE_TEST_SUITE_P(, Factors, ::testing::Values(1, 2, 127, 128, 129, 300, 513),
                         ::testing::PrintToStringParamName());

// A column without tokens keeps the added term alone, and takes no part in the others.
TEST(FactorMoments, LeavesUnusedColumnsToThemselves) {
  constexpr std::size_t kN = 40, kUnused = 11;
  engine::Matrix h = Moments(kN, 2);
  for (std::size_t c = 0; c < kN; ++c) Set(h, kUnused, c, 0.0F);
  const Double prepared = Prepared(h, 0.2);
  const double term = prepared(kUnused, kUnused);
  EXPECT_GT(term, 0);
  ASSERT_TRUE(FactorMoments({}, 0.2F, h));
  for (std::size_t c = 0; c < kN; ++c) {
    if (c == kUnused) continue;
    EXPECT_EQ(h.Row(std::min(c, kUnused))[std::max(c, kUnused)], 0.0F) << c;
  }
  EXPECT_NEAR(h.Row(kUnused)[kUnused], 1 / std::sqrt(term), 1e-6 / std::sqrt(term));
}

TEST(FactorMoments, OfNothingAreThoseOfOne) {
  engine::Matrix h;
  h.Resize(3, 3);
  std::ranges::fill(h.values, 0.0F);
  ASSERT_TRUE(FactorMoments({}, 0.2F, h));
  EXPECT_EQ(UpperOf(h), Double::Identity(3, 3));
}

// Shrunk altogether, only the diagonal is left.
TEST(FactorMoments, ShrinkTowardsTheDiagonal) {
  engine::Matrix h = Moments(50, 3);
  const Double prepared = Prepared(h, 1.0);
  ASSERT_TRUE(FactorMoments({}, 1.0F, h));
  const Double u = UpperOf(h);
  EXPECT_EQ(u, Double(u.diagonal().asDiagonal()));
  const Double ratio = u.diagonal().array().square() * prepared.diagonal().array();
  EXPECT_LE((ratio.array() - 1).abs().maxCoeff(), 1e-6);
}

// Not positive as it is: eigenvalues 1.5 and -0.5 (with shrink 0), of mean 1 / 2 on the diagonal.
// 0.002 * 2^k * 0.5 must exceed 0.5: k = 9.
TEST(FactorMoments, DoublesTheTermUntilThereIsAFactor) {
  engine::Matrix h;
  h.Resize(2, 2);
  h.values = {0.5F, 1.0F, 1.0F, 0.5F};
  const Double wanted = Prepared(h, 0.0, 0.002 * 512);
  ASSERT_TRUE(FactorMoments({}, 0.0F, h));
  const Double u = UpperOf(h);
  EXPECT_LE((u * wanted * u.transpose() - Double::Identity(2, 2)).cwiseAbs().maxCoeff(), 1e-4);
  h.values = {0.5F, 100.0F, 100.0F, 0.5F};
  EXPECT_FALSE(FactorMoments({}, 0.0F, h));
}

class FactorTargets : public phiq::testing::OnEveryTarget {};

TEST_P(FactorTargets, GiveTheSameBitsOnAnyThreads) {
  engine::Matrix expected = Moments(300, 4);
  {
    const phiq::testing::ChosenTarget best(0);
    ASSERT_TRUE(FactorMoments({}, 0.2F, expected));
  }
  const phiq::testing::ChosenTarget chosen(GetParam());
  for (const unsigned threads : {1U, 2U, 7U}) {
    engine::Matrix h = Moments(300, 4);
    ASSERT_TRUE(FactorMoments({.threads = threads}, 0.2F, h));
    EXPECT_EQ(UpperOf(h), UpperOf(expected)) << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(, FactorTargets, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         phiq::testing::TargetName);

}  // namespace
}  // namespace phiq::calibrate
