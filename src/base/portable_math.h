// Elementary functions that are the same bits on every machine: additions, multiplications and
// divisions of doubles, each rounded once, in one order. C libraries' own differ in the last digit,
// and one and the same library's by what the processor has.
#pragma once

namespace phiq {

// ln 2 in two parts; n times the first one is exact for |n| <= 2^20.
inline constexpr double kLn2High = 0x1.62e42feep-1;
inline constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
inline constexpr double kInverseLn2 = 0x1.71547652b82fep0;
inline constexpr double kExpLow = -746, kExpHigh = 710;  // beyond: 0 and infinity
inline constexpr double kRoundMagic = 0x1.8p52;  // what is added to it is rounded to an integer
// 1 / k! for k = 13 ... 2: with |r| <= 0.35 the rest of the series is below 5e-18.
inline constexpr double kExpSeries[] = {
    1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
    1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};

// The first 33 bits of pi/2, the next 33, and what is left: n times the first two is exact for |n|
// <= 2^20.
inline constexpr double kHalfPi1 = 0x1.921fb544p0;
inline constexpr double kHalfPi2 = 0x1.0b4611a6p-34;
inline constexpr double kHalfPi3 = 0x1.3198a2e037073p-69;
inline constexpr double kInverseHalfPi = 0x1.45f306dc9c883p-1;
// (-1)^k / (2k + 1)! and (-1)^k / (2k)!, the last term first. For |r| <= 0.79 the rest is below
// 1e-19 and 3e-18.
inline constexpr double kSinSeries[8] = {
    1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
    1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
inline constexpr double kCosSeries[8] = {
    1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
    1.0 / 40320,          -1.0 / 720,         1.0 / 24,        -1.0 / 2};

// e^x; 0 and infinity beyond double's range, NaN for NaN.
// Error    below one unit in the last place.
double PortableExp(double x) noexcept;

// The natural logarithm of a positive number; infinity and NaN stay, 0 has -infinity and a negative
// number NaN.
// Error    below one unit in the last place.
double PortableLog(double x) noexcept;

// x^y of a positive x. Error: (2 + 2 |y log x|) units in the last place.
double PortablePower(double x, double y) noexcept;

// Of an angle.
// Error    below 2^-52 for |x| <= 2^20.
double PortableSin(double x) noexcept;
double PortableCos(double x) noexcept;

}  // namespace phiq
