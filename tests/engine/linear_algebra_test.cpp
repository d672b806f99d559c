// Moments, factors and inverses, against their definition and against Eigen in double.
#include "engine/linear_algebra.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "testing/every_target.h"

namespace phiq::engine {
namespace {

using Double = Eigen::MatrixXd;

constexpr double kUnit = 0x1p-24;

std::vector<float> Random(std::mt19937& random, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  std::ranges::generate(values, [&] { return normal(random); });
  return values;
}

Eigen::Index Index(std::size_t i) { return static_cast<Eigen::Index>(i); }

Matrix Filled(std::size_t n_rows, std::size_t n_columns, float value) {
  Matrix matrix;
  matrix.Resize(n_rows, n_columns);
  std::ranges::fill(matrix.values, value);
  return matrix;
}

Double AsDouble(const Matrix& matrix) {
  using Map =
      Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
  return Map(matrix.values.data(), Index(matrix.n_rows), Index(matrix.n_columns)).cast<double>();
}

Double UpperOf(const Matrix& matrix) {
  return AsDouble(matrix).triangularView<Eigen::Upper>().toDenseMatrix();
}

// Symmetric and positive definite as calibration makes them: moments of fewer tokens than columns,
// some columns much larger, correlations shrunk by a fifth, and a little on the diagonal.
Matrix Moments(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  const std::size_t n_tokens = n / 2 + 1;
  std::vector<float> x = Random(random, n_tokens * n);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i % n % 17 == 3 ? 30.0F : 1.0F;
  Matrix h = Filled(n, n, 0);
  AddMoments({}, x.data(), n, n_tokens, h);
  MirrorToLower(h);
  for (std::size_t r = 0; r < n; ++r) {
    for (std::size_t c = 0; c < n; ++c)
      h.Row(r)[c] = r == c ? h.Row(r)[c] * 1.01F + 0.01F : h.Row(r)[c] * 0.8F;
  }
  return h;
}

// Of the lower triangle without the diagonal.
void ExpectSameBelow(const Matrix& a, const Matrix& b) {
  for (std::size_t r = 0; r < a.n_rows; ++r)
    for (std::size_t c = 0; c < r; ++c) ASSERT_EQ(a.Row(r)[c], b.Row(r)[c]) << r << " " << c;
}

TEST(Moments, AreTheirDefinitionBitForBit) {
  constexpr std::size_t kColumns = 300;  // two blocks
  constexpr std::size_t kStride = kColumns + 5;
  constexpr std::size_t kTokens = 600;  // three panels
  std::mt19937 random(1);
  const std::vector<float> x = Random(random, kTokens * kStride);
  const std::vector<float> y = Random(random, kTokens * kStride);
  Matrix h = Filled(kColumns, kColumns, 2);
  Matrix d = Filled(kColumns, kColumns, 3);
  AddMoments({.threads = 2}, x.data(), kStride, kTokens, h);
  MirrorToLower(h);
  AddCrossMoments({.threads = 2}, y.data(), x.data(), kStride, kTokens, d);
  const auto expected = [&](const std::vector<float>& left, std::size_t r, std::size_t c,
                            float sum) {
    for (std::size_t panel = 0; panel < kTokens; panel += 256) {
      float part = 0;
      for (std::size_t t = panel; t < std::min<std::size_t>(panel + 256, kTokens); ++t)
        part = std::fma(left[t * kStride + r], x[t * kStride + c], part);
      sum += part;
    }
    return sum;
  };
  for (std::size_t r = 0; r < kColumns; ++r) {
    for (std::size_t c = 0; c < kColumns; ++c) {
      ASSERT_EQ(h.Row(r)[c], expected(x, r, c, 2)) << r << " " << c;
      ASSERT_EQ(d.Row(r)[c], expected(y, r, c, 3)) << r << " " << c;
    }
  }
}

TEST(Moments, MayComeInSeveralCalls) {
  constexpr std::size_t kColumns = 40;
  std::mt19937 random(2);
  const std::vector<float> x = Random(random, 700 * kColumns);
  Matrix whole = Filled(kColumns, kColumns, 0);
  Matrix parts = whole;
  AddMoments({}, x.data(), kColumns, 700, whole);
  AddMoments({}, x.data(), kColumns, 512, parts);
  AddMoments({}, &x[512 * kColumns], kColumns, 188, parts);
  EXPECT_EQ(whole.values, parts.values);
}

class LinearAlgebra : public ::testing::TestWithParam<std::size_t> {};

TEST_P(LinearAlgebra, FactorsAndInvertsWithinItsBounds) {
  const std::size_t n = GetParam();
  const Matrix h = Moments(n, 3);
  Matrix r = h;
  ASSERT_TRUE(FactorReversed({.threads = 2}, r));
  ExpectSameBelow(r, h);
  Matrix u = r;
  InvertUpper({.threads = 2}, u);
  ExpectSameBelow(u, h);

  const Double factor = UpperOf(r);
  const Double inverse = UpperOf(u);
  const Double size = factor.cwiseAbs();
  const Double inverse_size = inverse.cwiseAbs();
  // The bounds of the header.
  const double n_roundings = static_cast<double>(n) + 1;
  Double factor_bound = n_roundings * kUnit * size * size.transpose();
  Double inverse_bound = n_roundings * kUnit * inverse_size * size;
  for (std::size_t first = 0; first < n; first += kPanelRows) {
    const Eigen::Index at = Index(first);
    const Eigen::Index width = Index(std::min(kPanelRows, n - first));
    const Double panel = size.block(at, at, width, width);
    const Double panel_inverse = factor.block(at, at, width, width).inverse().cwiseAbs();
    const double roundings = 2.0 * (kPanelRows + 1) * kUnit;
    const Double grown = panel.transpose() * panel_inverse.transpose() * panel.transpose();
    factor_bound.block(0, at, at, width) += roundings * size.block(0, at, at, width) * grown;
    inverse_bound.block(0, at, Index(n), width) +=
        roundings * (inverse_size * size).block(0, at, Index(n), width) * panel_inverse * panel;
  }
  const Double factor_error = (factor * factor.transpose() - AsDouble(h)).cwiseAbs();
  for (Eigen::Index i = 0; i < Index(n); ++i)
    for (Eigen::Index j = i; j < Index(n); ++j)
      ASSERT_LE(factor_error(i, j), factor_bound(i, j)) << i << " " << j;
  const Double inverse_error = (inverse * factor - Double::Identity(Index(n), Index(n))).cwiseAbs();
  ASSERT_TRUE((inverse_error.array() <= inverse_bound.array()).all()) << inverse_error.maxCoeff();
  EXPECT_GT(factor.diagonal().minCoeff(), 0);
}

TEST_P(LinearAlgebra, MultipliesByTheInverse) {
  const std::size_t n = GetParam();
  const Matrix h = Moments(n, 4);
  Matrix u = h;
  ASSERT_TRUE(FactorReversed({.threads = 2}, u));
  InvertUpper({.threads = 2}, u);
  std::mt19937 random(5);
  Matrix m = Filled(37, n, 0);
  m.values = Random(random, 37 * n);
  const Double before = AsDouble(m);
  MultiplyByInverse({.threads = 2}, u, m);
  // Two products with u, of n terms each (product.h): what they are exactly is known in double.
  const Double inverse = UpperOf(u);
  const Double expected = before * inverse.transpose() * inverse;
  const Double bound = 2 * (256 + static_cast<double>(n) / kPanelRows + 2) * kUnit *
                       before.cwiseAbs() * inverse.cwiseAbs().transpose() * inverse.cwiseAbs();
  ASSERT_TRUE(((AsDouble(m) - expected).array().abs() <= bound.array()).all());
}

// Around the panels (128) and the blocks (256).
INSTANTIATE_TEST_SUITE_P(Sizes, LinearAlgebra,
                         ::testing::Values(1, 2, 77, 128, 129, 256, 300, 520));

TEST(LinearAlgebraOfAnySize, GivesTheSameBitsOnAnyNumberOfThreadsAndEveryTarget) {
  constexpr std::size_t kSize = 400;
  const auto run = [&](unsigned threads) {
    std::mt19937 random(6);
    const std::vector<float> x = Random(random, 300 * kSize);
    Matrix h = Moments(kSize, 7);
    const Runner runner{.threads = threads};
    AddMoments(runner, x.data(), kSize, 300, h);
    MirrorToLower(h);
    EXPECT_TRUE(FactorReversed(runner, h));
    InvertUpper(runner, h);
    Matrix m = Filled(300, kSize, 0);
    AddCrossMoments(runner, x.data(), x.data() + kSize, kSize, 299, h);
    m.values = Random(random, 300 * kSize);
    MultiplyByInverse(runner, h, m);
    m.values.insert(m.values.end(), h.values.begin(), h.values.end());
    return m.values;
  };
  const std::vector<float> expected = run(1);
  EXPECT_EQ(run(2), expected);
  EXPECT_EQ(run(7), expected);
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const testing::ChosenTarget chosen(target);
    EXPECT_EQ(run(2), expected) << hwy::TargetName(target);
  }
}

TEST(LinearAlgebraOfAnySize, RefusesWhatIsNotPositiveDefinite) {
  for (const std::size_t at : {0U, 100U, 299U}) {
    for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity()}) {
      const Matrix h = Moments(300, 8);
      Matrix r = h;
      r.Row(at)[at] = bad;
      EXPECT_FALSE(FactorReversed({}, r)) << at << " " << bad;
      ExpectSameBelow(r, h);  // what the upper triangle can be made from again
    }
  }
}

}  // namespace
}  // namespace phiq::engine
