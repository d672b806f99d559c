// Argument reduction and series. Compiled without contraction into fused multiply-add, as
// everything is: that would be another bit on another machine.
#include "base/portable_math.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>

namespace phiq {
namespace {

template <std::size_t n>
double Series(const double (&coefficients)[n], double z) noexcept {
  double sum = coefficients[0];
  for (std::size_t i = 1; i < n; ++i) sum = sum * z + coefficients[i];
  return sum;
}

// The sine of x + quarters * pi/2.
double SinOfQuarters(double x, std::uint64_t quarters) noexcept {
  const double shifted = x * kInverseHalfPi + kRoundMagic;
  const double n = shifted - kRoundMagic;
  const double r = x - n * kHalfPi1 - n * kHalfPi2 - n * kHalfPi3;
  const double z = r * r;
  quarters += std::bit_cast<std::uint64_t>(shifted);  // whose last bits are those of n
  const double value =
      quarters % 2 == 0 ? Series(kSinSeries, z) * z * r + r : Series(kCosSeries, z) * z + 1;
  return quarters % 4 < 2 ? value : -value;
}

}  // namespace

double PortableExp(double x) noexcept {
  if (!(x == x)) return x;
  x = x < kExpLow ? kExpLow : x;
  x = x > kExpHigh ? kExpHigh : x;
  // x = n ln 2 + r with |r| <= 0.35.
  const double n = x * kInverseLn2 + kRoundMagic - kRoundMagic;
  const double r = x - n * kLn2High - n * kLn2Low;
  const double p = Series(kExpSeries, r) * r * r + r + 1;
  // In two steps, as the result may be subnormal, and 2^n beyond the largest number.
  const auto power = static_cast<std::int64_t>(n);
  const std::int64_t first = power >> 1;
  const auto two_to = [](std::int64_t e) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52);
  };
  return p * two_to(first) * two_to(power - first);
}

// x = 2^k (1 + f) with 1 + f from the root of 1/2 to that of 2; with s = f / (2 + f) and z = s^2,
// log(1 + f) = f - f^2/2 + s (f^2/2 + R), R = 2 z/3 + 2 z^2/5 + ...: z <= 0.0295, and what is left
// out is below 2^-57.
double PortableLog(double x) noexcept {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!(x > 0)) return x == 0 ? -kInfinity : std::numeric_limits<double>::quiet_NaN();
  if (x == kInfinity) return x;
  double k = 0;
  if (x < std::numeric_limits<double>::min()) {
    x *= 0x1p54;
    k = -54;
  }
  std::uint64_t bits = std::bit_cast<std::uint64_t>(x);
  // 2 - root of 2, as the first bits of a mantissa, carries into the exponent from the root of 2
  // on.
  const std::uint64_t exponent = (bits + (std::uint64_t{0x95f62} << 32)) >> 52;
  k += static_cast<double>(exponent) - 1023;
  bits = bits - (exponent << 52) + (std::uint64_t{1023} << 52);
  const double f = std::bit_cast<double>(bits) - 1;
  const double s = f / (2 + f);
  const double z = s * s;
  double r = 2.0 / 23;
  for (int n = 21; n >= 3; n -= 2) r = r * z + 2.0 / n;
  r = r * z;
  const double half_square = 0.5 * f * f;
  return k * kLn2High - ((half_square - (s * (half_square + r) + k * kLn2Low)) - f);
}

double PortablePower(double x, double y) noexcept { return PortableExp(y * PortableLog(x)); }

double PortableSin(double x) noexcept { return SinOfQuarters(x, 0); }

double PortableCos(double x) noexcept { return SinOfQuarters(x, 1); }

}  // namespace phiq
