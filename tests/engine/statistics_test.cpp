// Means, errors and percentiles against hand-reckoned values.
#include "engine/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace phiq::engine {
namespace {

// Sums of a few numbers near 1: some 1e-16 of rounding.
constexpr double kRounding = 1e-14;

TEST(Statistics, GivesMeanAndStandardError) {
  // Deviations -2, 0, 2: mean square 8 / 3, over n - 1 = 2: 4 / 3.
  const Estimate mean = MeanOf(std::vector<double>{1, 3, 5});
  EXPECT_NEAR(mean.value, 3, kRounding);
  EXPECT_NEAR(mean.standard_error, std::sqrt(4.0 / 3), kRounding);
  EXPECT_EQ(MeanOf(std::vector<double>{7}).value, 7);
  EXPECT_EQ(MeanOf(std::vector<double>{7}).standard_error, 0);
}

TEST(Statistics, GivesPerplexityWithItsError) {
  // Probabilities 1/2 and 1/8: mean of -log is log 4; deviations are log 2 each, n - 1 = 1.
  const Estimate perplexity = PerplexityOf(std::vector<double>{std::log(0.5), std::log(0.125)});
  EXPECT_NEAR(perplexity.value, 4, kRounding);
  EXPECT_NEAR(perplexity.standard_error, 4 * std::log(2), kRounding);
}

TEST(Statistics, InterpolatesPercentiles) {
  const std::vector<double> sorted = {0, 10, 20, 40};
  EXPECT_EQ(PercentileOf(sorted, 0), 0);
  EXPECT_EQ(PercentileOf(sorted, 0.5), 15);  // the middle of the two in the middle
  EXPECT_NEAR(PercentileOf(sorted, 0.9), 34, kRounding * 40);
  EXPECT_EQ(PercentileOf(sorted, 1), 40);
  EXPECT_EQ(PercentileOf(std::vector<double>{3}, 0.999), 3);
}

TEST(Statistics, PairsTheErrorOfThePerplexityRatio) {
  // The models differ by 0.1 at every position, whatever its difficulty: no error is left.
  const std::vector<double> reference = {-1, -5, -2};
  const std::vector<double> other = {-1.1, -5.1, -2.1};
  const std::vector<double> kl = {0.3, 0.1, 0.2};
  const std::vector<double> same_top = {1, 0, 1};
  const Divergence divergence = DivergenceOf(reference, other, kl, same_top);
  EXPECT_NEAR(divergence.log_ppl_ratio.value, 0.1, kRounding);
  EXPECT_NEAR(divergence.log_ppl_ratio.standard_error, 0, kRounding);
  EXPECT_NEAR(divergence.ppl_ratio, std::exp(0.1), kRounding);
  EXPECT_NEAR(divergence.mean_kl.value, 0.2, kRounding);
  EXPECT_NEAR(divergence.median_kl, 0.2, kRounding);
  EXPECT_NEAR(divergence.p90_kl, 0.28, kRounding);
  EXPECT_EQ(divergence.max_kl, 0.3);
  EXPECT_NEAR(divergence.same_top.value, 2.0 / 3, kRounding);
  // sqrt(p (1 - p) / (n - 1)) for a share of n.
  EXPECT_NEAR(divergence.same_top.standard_error, std::sqrt(2.0 / 9 / 2), kRounding);
  EXPECT_EQ(divergence.kl, (std::vector<float>{0.3F, 0.1F, 0.2F}));
}

}  // namespace
}  // namespace phiq::engine
