// Sums of rows are those of eight running sums on every instruction set, and the worst block's
// error is that of the block.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/simd/compare.h"
#include "simd_testing.h"

namespace phiq {
namespace {

using testing::Kind;

class CompareKernels : public testing::OnEveryTarget {};

TEST_P(CompareKernels, AddUpInEightSums) {
  for (const std::size_t n : {0, 1, 7, 8, 9, 40, 333}) {
    const std::vector<float> a = testing::WeightsOfKind(Kind::kGaussian, n, 8);
    const std::vector<float> b = testing::WeightsOfKind(Kind::kHeavyTails, n, 9);
    simd::RowSums eight[8];
    for (std::size_t i = 0; i < n; ++i) {
      const double x = a[i], y = b[i], error = std::abs(x - y);
      eight[i % 8].Add({error * error, x * x, y * y, x * y, error});
    }
    simd::RowSums expected;
    for (const simd::RowSums& sums : eight) expected.Add(sums);
    const simd::RowSums sums = simd::CompareRows(a, b);
    EXPECT_EQ(sums.squared_error, expected.squared_error) << n;
    EXPECT_EQ(sums.squared_a, expected.squared_a) << n;
    EXPECT_EQ(sums.squared_b, expected.squared_b) << n;
    EXPECT_EQ(sums.product, expected.product) << n;
    EXPECT_EQ(sums.max_error, expected.max_error) << n;
  }
}

TEST_P(CompareKernels, FindTheWorstBlockWhereverItIs) {
  constexpr std::size_t kBlock = 20;
  for (const std::size_t n : {20, 50, 60}) {
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<float> a(n, -2.0F);
      std::vector<float> b = a;
      EXPECT_EQ(simd::WorstBlock(a, b, kBlock, 0.0), 0.0);
      b[i] += 0.5F;
      EXPECT_EQ(simd::WorstBlock(a, b, kBlock, 0.5), 0.0);
      EXPECT_EQ(simd::WorstBlock(a, b, kBlock, 0.25), 0.125);
      a[i / kBlock * kBlock] = 4.0F;  // the largest of the block
      b[i / kBlock * kBlock] = i % kBlock == 0 ? 4.5F : 4.0F;
      EXPECT_EQ(simd::WorstBlock(a, b, kBlock, 0.25), 0.0625) << i << " of " << n;
      std::fill_n(a.begin(), n, 0.0F);
      EXPECT_EQ(simd::WorstBlock(a, b, kBlock, 0.25), std::numeric_limits<double>::infinity());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, CompareKernels, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq
