// All 65,536 halves, and every midpoint between two of them.
#include "base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace phiq {
namespace {

// Value of a half by the definition of the format, in double.
double ValueOfHalf(std::uint32_t h) {
  const int exponent = static_cast<int>((h >> 10) & 31);
  const double mantissa = h & 1023;
  const double magnitude =
      exponent == 0 ? mantissa * 0x1p-24 : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Half, WidensEveryPatternExactly) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const float x = Fp16ToFloat(static_cast<std::uint16_t>(h));
    if (((h >> 10) & 31) == 31) {
      EXPECT_EQ(std::isnan(x), (h & 1023) != 0) << h;
      EXPECT_EQ(std::signbit(x), (h & 0x8000) != 0) << h;
    } else {
      ASSERT_EQ(static_cast<double>(x), ValueOfHalf(h)) << h;
    }
  }
}

TEST(Half, NarrowsBackEveryPattern) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const std::uint16_t back = FloatToFp16(Fp16ToFloat(static_cast<std::uint16_t>(h)));
    if (((h >> 10) & 31) == 31 && (h & 1023) != 0) {
      EXPECT_EQ(back & 0x7E00U, 0x7E00U) << h;  // quiet
    } else {
      ASSERT_EQ(back, h);
    }
  }
}

// Between two neighbours the midpoint goes to the even one, and a float step decides either side.
TEST(Half, RoundsToNearestEvenAroundEveryMidpoint) {
  for (std::uint32_t h = 0; h < 0x7BFF; ++h) {
    const auto middle = static_cast<float>((ValueOfHalf(h) + ValueOfHalf(h + 1)) / 2);
    const std::uint32_t even = (h & 1) == 0 ? h : h + 1;
    ASSERT_EQ(FloatToFp16(middle), even) << h;
    ASSERT_EQ(FloatToFp16(std::nextafter(middle, 0.0F)), h) << h;
    ASSERT_EQ(FloatToFp16(std::nextafter(middle, 1e9F)), h + 1) << h;
    ASSERT_EQ(FloatToFp16(-middle), even | 0x8000U) << h;
  }
}

TEST(Half, HasTheKnownEdges) {
  EXPECT_EQ(FloatToFp16(65519.996F), 0x7BFF);
  EXPECT_EQ(FloatToFp16(65520.0F), 0x7C00);
  EXPECT_EQ(FloatToFp16(0x1p-25F), 0);
  EXPECT_EQ(FloatToFp16(std::nextafter(0x1p-25F, 1.0F)), 1);
  EXPECT_EQ(FloatToFp16(-0.0F), 0x8000);
  EXPECT_EQ(FloatToFp16(-std::numeric_limits<float>::infinity()), 0xFC00);
}

TEST(Bfloat16, WidensAndNarrowsEveryPattern) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const float x = Bf16ToFloat(static_cast<std::uint16_t>(h));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(x), h << 16);
    const std::uint16_t back = FloatToBf16(x);
    ASSERT_EQ(back, std::isnan(x) ? (h | 0x40U) : h);
  }
}

TEST(Bfloat16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3F808000U)), 0x3F80);  // tie to even, down
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3F818000U)), 0x3F82);  // tie to even, up
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x7F800001U)), 0x7FC0);  // not Inf
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), 0x7F80);
}

}  // namespace
}  // namespace phiq
