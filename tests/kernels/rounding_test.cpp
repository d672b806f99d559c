// The roundings that loops over weights use, against those of the C library and base/half.h.
#include "kernels/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/half.h"

namespace phiq {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Both sides only ever step up, and roundf does so at k + 0.5: being equal just below and at each
// step, and at the ends, they are equal for every float in 0 ... 255.5.
TEST(RoundToCode, EqualsRoundfOnBothSidesOfEveryStep) {
  for (int k = 0; k < 255; ++k) {
    const float at = static_cast<float>(k) + 0.5F;
    const float below = std::nextafter(at, 0.0F);
    EXPECT_EQ(RoundToCode(at, 255.0F), std::lround(at));
    EXPECT_EQ(RoundToCode(below, 255.0F), std::lround(below));
  }
  EXPECT_EQ(RoundToCode(0.0F, 255.0F), 0);
  EXPECT_EQ(RoundToCode(255.0F, 255.0F), 255);
}

TEST(RoundHalfAwayFloat, RoundsEveryFloat) {
  for (int k = 0; k < 1000; ++k) {
    const float at = static_cast<float>(k) + 0.5F;
    for (const float sign : {1.0F, -1.0F}) {
      EXPECT_EQ(RoundHalfAwayFloat(sign * std::nextafter(at, 0.0F)), sign * static_cast<float>(k));
      EXPECT_EQ(RoundHalfAwayFloat(sign * at), sign * static_cast<float>(k + 1));
      EXPECT_EQ(RoundHalfAwayFloat(sign * static_cast<float>(k)), sign * static_cast<float>(k));
    }
  }
  // The last floats with a fraction, and those without one.
  EXPECT_EQ(RoundHalfAwayFloat(0x1p22F + 0.5F), 0x1p22F + 1);
  EXPECT_EQ(RoundHalfAwayFloat(0x1p23F - 0.5F), 0x1p23F);
  for (const float v : {0x1p23F, 0x1p23F + 1, -1e30F, kInf, -kInf})
    EXPECT_EQ(RoundHalfAwayFloat(v), v);
  EXPECT_TRUE(std::isnan(RoundHalfAwayFloat(kNan)));
}

TEST(RoundToCode, CutsToTheCodes) {
  for (const float v : {-0.0F, -1e-30F, -0.5F, -1e30F, -kInf, kNan}) {
    EXPECT_EQ(RoundToCode(v, 15.0F), 0) << v;
    EXPECT_EQ(RoundToEvenCode(v, 15.0F), 0) << v;
    EXPECT_EQ(RoundToEvenCode(static_cast<double>(v), 15.0), 0) << v;
  }
  for (const float v : {15.0F, 15.5F, 16.0F, 1e30F, kInf}) {
    EXPECT_EQ(RoundToCode(v, 15.0F), 15) << v;
    EXPECT_EQ(RoundToEvenCode(v, 15.0F), 15) << v;
    EXPECT_EQ(RoundToEvenCode(static_cast<double>(v), 15.0), 15) << v;
  }
}

TEST(RoundToEvenCode, EqualsRintOnBothSidesOfEveryStep) {
  for (int k = 0; k < 255; ++k) {
    const double at = k + 0.5;
    for (const double v : {std::nextafter(at, 0.0), at, std::nextafter(at, 256.0)})
      EXPECT_EQ(RoundToEvenCode(v, 255.0), std::rint(v));
    const float near = static_cast<float>(at);
    for (const float v : {std::nextafter(near, 0.0F), near, std::nextafter(near, 256.0F)})
      EXPECT_EQ(static_cast<float>(RoundToEvenCode(v, 255.0F)), std::rint(v));
  }
}

// Every half and every point between two of them, with a float on either side.
TEST(RoundToHalf, EqualsFloatToFp16) {
  for (std::uint32_t h = 0; h < 0x7C00; ++h) {
    const float half = Fp16ToFloat(static_cast<std::uint16_t>(h));
    const float next = h < 0x7BFF ? Fp16ToFloat(static_cast<std::uint16_t>(h + 1)) : 65536.0F;
    const float middle = half + (next - half) / 2.0F;
    const float below = std::nextafter(middle, 0.0F);
    for (const float v : {half, below, middle, std::nextafter(middle, 1e9F)}) {
      ASSERT_EQ(RoundToHalf(v), Fp16ToFloat(FloatToFp16(v))) << v;
      ASSERT_EQ(RoundToHalf(-v), Fp16ToFloat(FloatToFp16(-v))) << v;
    }
  }
  EXPECT_TRUE(std::signbit(RoundToHalf(-0.0F)));
  EXPECT_EQ(RoundToHalf(std::numeric_limits<float>::max()), kInf);
}

// Both only look at the sign, at the last bit that stays and at those that go: every exponent with
// a few mantissas shows all of it.
TEST(RoundToBf16, EqualsFloatToBf16) {
  for (std::uint32_t high = 0; high < 0x7F80; ++high) {
    for (const std::uint32_t low : {0x0000U, 0x0001U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      const float v = std::bit_cast<float>(high << 16 | low);
      ASSERT_EQ(RoundToBf16(v), Bf16ToFloat(FloatToBf16(v))) << v;
      ASSERT_EQ(RoundToBf16(-v), Bf16ToFloat(FloatToBf16(-v))) << v;
    }
  }
  EXPECT_TRUE(std::signbit(RoundToBf16(-0.0F)));
  EXPECT_EQ(RoundToBf16(std::numeric_limits<float>::max()), kInf);
}

// Of a double just beside a half-way case the nearest float is the half-way case itself.
TEST(RoundToHalf, RoundsDoublesOnce) {
  for (std::uint32_t h = 0; h < 0x7BFF; ++h) {
    const double half = Fp16ToFloat(static_cast<std::uint16_t>(h));
    const double next = Fp16ToFloat(static_cast<std::uint16_t>(h + 1));
    const double middle = (half + next) / 2.0;
    const double even = h % 2 == 0 ? half : next;
    ASSERT_EQ(RoundToHalf(std::nextafter(middle, 0.0)), half) << middle;
    ASSERT_EQ(RoundToHalf(middle), even) << middle;
    ASSERT_EQ(RoundToHalf(std::nextafter(middle, 1e9)), next) << middle;
    ASSERT_EQ(RoundToHalf(-std::nextafter(middle, 1e9)), -next) << middle;
  }
  EXPECT_EQ(RoundToHalf(65519.999999999), 65504.0F);
  EXPECT_EQ(RoundToHalf(65520.0), kInf);
  EXPECT_EQ(RoundToHalf(1e-60), 0.0F);
}

}  // namespace
}  // namespace phiq
