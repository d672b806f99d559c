// Ticks and bins against values worked by hand.
#include "plot_scale.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <vector>

namespace phiq::cli {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Ticks are products of a step and a whole number: a few roundings of 1.1e-16 each.
MATCHER(IsTick, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= 1e-14 * std::abs(std::get<1>(arg));
}

void ExpectTicks(const Scale& scale, const std::vector<double>& wanted) {
  EXPECT_THAT(scale.ticks(), Pointwise(IsTick(), wanted));
}

TEST(LinearScale, HasTicksAtRoundSteps) {
  ExpectTicks(Scale::Linear(0, 10), {0, 2, 4, 6, 8, 10});  // step: 10 / 5
  ExpectTicks(Scale::Linear(129, 256), {150, 200, 250});   // 25.4 -> 50
  ExpectTicks(Scale::Linear(-0.3, 0.2), {-0.3, -0.2, -0.1, 0, 0.1, 0.2});
  ExpectTicks(Scale::Linear(15.2, 35), {15, 20, 25, 30, 35});  // 3.96 -> 5; from 14.21 on
}

TEST(LinearScale, GoesATwentiethBeyondItsValues) {
  const Scale scale = Scale::Linear(0, 10);
  EXPECT_DOUBLE_EQ(scale.low(), -0.5);
  EXPECT_DOUBLE_EQ(scale.high(), 10.5);
  EXPECT_DOUBLE_EQ(scale.Fraction(5), 0.5);
  EXPECT_DOUBLE_EQ(scale.Fraction(-0.5), 0);
}

TEST(LinearScale, MovesEqualEndsApart) {
  ExpectTicks(Scale::Linear(0, 0), {-1, -0.5, 0, 0.5, 1});
  EXPECT_DOUBLE_EQ(Scale::Linear(4.5, 4.5).Fraction(4.5), 0.5);
}

TEST(LogScale, HasTicksAtPowersOfTen) {
  ExpectTicks(Scale::Log(2e-4, 3), {1e-3, 1e-2, 0.1, 1});
  ExpectTicks(Scale::Log(1e-5, 1e-2), {1e-5, 1e-4, 1e-3, 1e-2});
}

TEST(LogScale, HasOneTwoFiveBelowThreePowers) {
  ExpectTicks(Scale::Log(0.03, 0.4), {0.05, 0.1, 0.2});
  ExpectTicks(Scale::Log(4.4, 33), {5, 10, 20});
}

TEST(LogScale, HasEvenStepsInASmallRange) {
  // No 1, 2 or 5 in it; a quarter of the range is 0.005.
  ExpectTicks(Scale::Log(0.022, 0.042), {0.025, 0.03, 0.035, 0.04});
}

TEST(LogScale, LeavesOutPowersWhenThereAreMany) {
  // 10^-14 ... 10^2 are seventeen: every second one.
  ExpectTicks(Scale::Log(1e-14, 1e2), {1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1, 100});
}

TEST(LogScale, PutsTheGeometricMeanInTheMiddle) {
  const Scale scale = Scale::Log(1e-4, 1);
  EXPECT_NEAR(scale.Fraction(1e-2), 0.5, 1e-15);
  // Equal ends: half and double around the value.
  EXPECT_NEAR(Scale::Log(0.07, 0.07).Fraction(0.07), 0.5, 1e-15);
}

TEST(LogScale, ShowsPositiveFiniteNumbersOnly) {
  const Scale scale = Scale::Log(1e-4, 1);
  EXPECT_TRUE(scale.CanShow(1e-300));
  for (const double value : {0.0, -1.0, kInfinity, kNan}) EXPECT_FALSE(scale.CanShow(value));
}

TEST(LogScale, EndsAtTheRimForNumbersBeyondAllBounds) {
  const Scale scale = Scale::Log(5e-324, 1.7e308);
  EXPECT_EQ(scale.Fraction(5e-324), 0);
  EXPECT_EQ(scale.Fraction(1.7e308), 1);
  EXPECT_GE(scale.ticks().size(), 2U);
  EXPECT_LE(scale.ticks().size(), 10U);
}

TEST(DecadeScale, BeginsAndEndsAtItsPowers) {
  const Scale scale = Scale::Decades(-3, 1);
  ExpectTicks(scale, {1e-3, 1e-2, 0.1, 1, 10});
  EXPECT_EQ(scale.Fraction(1e-3), 0);
  EXPECT_EQ(scale.Fraction(10), 1);
}

TEST(IndexScale, GivesEachOneItsPlace) {
  ExpectTicks(Scale::Index(1), {0});
  EXPECT_DOUBLE_EQ(Scale::Index(1).Fraction(0), 0.5);
  ExpectTicks(Scale::Index(4), {0, 1, 2, 3});
  ExpectTicks(Scale::Index(32), {0, 5, 10, 15, 20, 25, 30});  // 32 / 8 -> 5
  ExpectTicks(Scale::Index(64), {0, 10, 20, 30, 40, 50, 60});
  EXPECT_DOUBLE_EQ(Scale::Index(4).Fraction(0), 0.125);
}

TEST(ScaleOver, ReadsOnlyWhatItCanShow) {
  const std::vector<double> values = {kNan, 0, -3, 0.1, kInfinity, 10};
  EXPECT_NEAR(Scale::LogOver(values).Fraction(1), 0.5, 1e-15);
  EXPECT_DOUBLE_EQ(Scale::LinearOver(values).Fraction(3.5), 0.5);
}

TEST(CountByDecade, PutsEachValueIntoItsBin) {
  // Ten bins a power of ten: they begin at 0.01, 0.01259, 0.01585, ..., 0.1, ...
  const std::vector<float> values = {0.0101F, 0.0125F, 0.0127F, 0.05F, 0.1F, 0.99F};
  const LogHistogram histogram = CountByDecade(values, -2, 0);
  ASSERT_EQ(histogram.counts.size(), 20U);
  std::vector<std::uint64_t> wanted(20);
  wanted[0] = 2;   // 0.0101, 0.0125
  wanted[1] = 1;   // 0.0127
  wanted[6] = 1;   // 0.05: 10 * log10(5) = 6.99
  wanted[10] = 1;  // 0.1F is a little above 0.1, but a float below would count as 0.1 too
  wanted[19] = 1;
  EXPECT_EQ(histogram.counts, wanted);
  EXPECT_EQ(histogram.n_below, 0U);
}

TEST(CountByDecade, CountsPowersOfTenWhereTheyBegin) {
  const std::vector<float> values = {1e-9F, 1e-8F, 1e-7F, 1e-6F, 1e-5F, 1e-4F};
  const LogHistogram histogram = CountByDecade(values, -9, -3);
  for (std::size_t decade = 0; decade < 6; ++decade)
    EXPECT_EQ(histogram.counts[decade * 10], 1U) << decade;
}

TEST(CountByDecade, KeepsApartWhatHasNoPlace) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {
      0, -0.5F, 1e-9F, 1e-45F, infinity, -infinity, std::numeric_limits<float>::quiet_NaN(), 1e30F};
  const LogHistogram histogram = CountByDecade(values, -8, 0);
  EXPECT_EQ(histogram.n_below, 4U);
  EXPECT_EQ(histogram.n_not_finite, 3U);
  EXPECT_EQ(histogram.counts.back(), 1U);  // what is above is in the last bin
}

TEST(LogHistogram, KnowsWhereItsBinsBegin) {
  const LogHistogram histogram = CountByDecade({}, -2, 0);
  EXPECT_DOUBLE_EQ(histogram.BinLow(0), 0.01);
  EXPECT_DOUBLE_EQ(histogram.BinLow(10), 0.1);
  EXPECT_NEAR(histogram.BinLow(3), 0.0199526, 1e-7);  // 10^-1.7, to the digits given
}

}  // namespace
}  // namespace phiq::cli
