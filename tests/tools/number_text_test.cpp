// Numbers for people.
#include "number_text.h"

#include <gtest/gtest.h>

#include <limits>

namespace phiq::cli {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(FormatFigure, HasFourSignificantDigits) {
  EXPECT_EQ(FormatFigure(14.2083), "14.21");
  EXPECT_EQ(FormatFigure(4.5), "4.500");
  EXPECT_EQ(FormatFigure(0.014942), "0.01494");
  EXPECT_EQ(FormatFigure(-0.5), "−0.5000");
  EXPECT_EQ(FormatFigure(0), "0");
}

TEST(FormatFigure, RoundsUpToTheNextPowerOfTen) {
  EXPECT_EQ(FormatFigure(9.99996), "10.00");
  EXPECT_EQ(FormatFigure(0.00999999), "0.01000");
}

TEST(FormatFigure, KeepsTheWholePart) {
  EXPECT_EQ(FormatFigure(12345.6), "12,346");
  EXPECT_EQ(FormatFigure(-1234567), "−1,234,567");
}

TEST(FormatFigure, TakesPowersOfTenForWhatIsFarFromOne) {
  EXPECT_EQ(FormatFigure(3.21e-5), "3.210×10⁻⁵");
  EXPECT_EQ(FormatFigure(-6.02214e23), "−6.022×10²³");
  EXPECT_EQ(FormatFigure(0.001), "0.001000");
  EXPECT_EQ(FormatFigure(1e7), "1.000×10⁷");
}

TEST(FormatFigure, NamesWhatIsNoNumber) {
  EXPECT_EQ(FormatFigure(kInfinity), "∞");
  EXPECT_EQ(FormatFigure(-kInfinity), "−∞");
  EXPECT_EQ(FormatFigure(kNan), "NaN");
}

TEST(FormatTick, HasNoDigitTooMany) {
  EXPECT_EQ(FormatTick(0), "0");
  EXPECT_EQ(FormatTick(0.5), "0.5");
  EXPECT_EQ(FormatTick(3 * 0.1), "0.3");  // 0.30000000000000004
  EXPECT_EQ(FormatTick(20000), "20,000");
  EXPECT_EQ(FormatTick(1e-5), "10⁻⁵");
  EXPECT_EQ(FormatTick(2e-5), "2×10⁻⁵");
  EXPECT_EQ(FormatTick(-1e9), "−10⁹");
}

TEST(FormatEstimate, HasTheDecimalsOfItsError) {
  EXPECT_EQ(FormatEstimate({14.2083, 0.2519}), "14.21 ± 0.25");
  EXPECT_EQ(FormatEstimate({0.0149423, 0.000204}), "0.01494 ± 0.00020");
  EXPECT_EQ(FormatEstimate({1234.5, 67.8}), "1234 ± 68");
  EXPECT_EQ(FormatEstimate({-0.5, 0.02}), "−0.500 ± 0.020");
}

TEST(FormatEstimate, WritesSmallOnesAsMultiplesOfOnePower) {
  EXPECT_EQ(FormatEstimate({1.353e-4, 1.9e-6}), "(1.353 ± 0.019)×10⁻⁴");
  EXPECT_EQ(FormatEstimate({2e-9, 3e-8}), "(0.2 ± 3.0)×10⁻⁸");
}

TEST(FormatEstimate, WithoutAnErrorIsTheFigure) {
  EXPECT_EQ(FormatEstimate({1.5, 0}), "1.500");
  EXPECT_EQ(FormatEstimate({1.5, kNan}), "1.500");
  EXPECT_EQ(FormatEstimate({kInfinity, 1}), "∞");
}

TEST(FormatShare, IsInPercent) {
  EXPECT_EQ(FormatShare(0.9341), "93.41 %");
  EXPECT_EQ(FormatShare(Estimate{0.9341, 0.0022}), "93.41 ± 0.22 %");
  EXPECT_EQ(FormatShare(Estimate{1, 0}), "100.00 %");
  EXPECT_EQ(FormatShare(kNan), "NaN");
}

}  // namespace
}  // namespace phiq::cli
