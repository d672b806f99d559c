// Our own exp, log, pow, sin and cos against wider arithmetic.
#include "base/portable_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace phiq {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// How far a double is from the truth, in units in the last place of the truth.
double Units(double value, long double truth) {
  int exponent = 0;
  std::frexp(static_cast<double>(truth), &exponent);
  return static_cast<double>(std::abs(value - truth) /
                             std::ldexp(1.0L, std::max(exponent - 53, -1074)));
}

// long double has 11 digits more on x86-64 and 60 on aarch64: its own error does not show.
TEST(PortableMath, TakesExponentialsWithinOneUnit) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> wide(-745, 709.7);
  std::uniform_real_distribution<double> narrow(-1, 1);
  for (int i = 0; i < 200'000; ++i) {
    for (const double x : {wide(random), narrow(random)})
      ASSERT_LT(Units(PortableExp(x), std::exp(static_cast<long double>(x))), 1) << x;
  }
  EXPECT_EQ(PortableExp(0), 1);
  EXPECT_EQ(PortableExp(-750), 0);
  EXPECT_EQ(PortableExp(-kInfinity), 0);
  EXPECT_EQ(PortableExp(710), kInfinity);
  EXPECT_EQ(PortableExp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(PortableExp(std::numeric_limits<double>::quiet_NaN())));
}

TEST(PortableMath, TakesLogarithmsWithinOneUnit) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> exponents(-1020, 1020);
  std::uniform_real_distribution<double> near_one(0.5, 2);
  for (int i = 0; i < 200'000; ++i) {
    for (const double x : {std::exp2(exponents(random)), near_one(random)})
      ASSERT_LT(Units(PortableLog(x), std::log(static_cast<long double>(x))), 1) << x;
  }
  for (const double x : {std::nextafter(1.0, 0.0), std::nextafter(1.0, 2.0), 0x1p-1074, 0x1.8p-1030,
                         std::numeric_limits<double>::max()})
    EXPECT_LT(Units(PortableLog(x), std::log(static_cast<long double>(x))), 1);
  EXPECT_EQ(PortableLog(1), 0);
  EXPECT_EQ(PortableLog(0), -kInfinity);
  EXPECT_EQ(PortableLog(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(PortableLog(-1)));
  EXPECT_TRUE(std::isnan(PortableLog(std::numeric_limits<double>::quiet_NaN())));
}

TEST(PortableMath, TakesPowersWithinItsBound) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> base(1, 1e6);
  std::uniform_real_distribution<double> exponent(-2, 2);
  for (int i = 0; i < 200'000; ++i) {
    const double x = base(random);
    const double y = exponent(random);
    ASSERT_LT(Units(PortablePower(x, y),
                    std::pow(static_cast<long double>(x), static_cast<long double>(y))),
              2 + 2 * std::abs(y * std::log(x)))
        << x << " " << y;
  }
}

TEST(PortableMath, TakesSinesAndCosines) {
  std::mt19937_64 random(4);
  std::uniform_real_distribution<double> narrow(-4, 4);
  std::uniform_real_distribution<double> wide(-0x1p20, 0x1p20);
  for (int i = 0; i < 200'000; ++i) {
    // Floats, as positions times frequencies are, and multiples of a quarter turn among them.
    const double turns = std::round(wide(random)) * 1.5707963267948966;
    for (const double x :
         {narrow(random), wide(random), static_cast<double>(static_cast<float>(wide(random))),
          std::abs(turns) <= 0x1p20 ? turns : 0}) {
      ASSERT_LT(std::abs(PortableSin(x) - std::sin(static_cast<long double>(x))), 0x1p-52L) << x;
      ASSERT_LT(std::abs(PortableCos(x) - std::cos(static_cast<long double>(x))), 0x1p-52L) << x;
    }
  }
  EXPECT_EQ(PortableSin(0), 0);
  EXPECT_EQ(PortableCos(0), 1);
}

}  // namespace
}  // namespace phiq
