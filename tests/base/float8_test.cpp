// All 256 values of both kinds against the formula of their definition (OCP 8-bit floating point
// specification, revision 1.0), and its named values.
#include "base/float8.h"

#include <gtest/gtest.h>

namespace phiq {
namespace {

// (-1)^s 2^(e - bias) (1 + m / 2^n), or with e = 0 (-1)^s 2^(1 - bias) m / 2^n.
double ByFormula(unsigned bits, unsigned n_fraction, int bias) {
  const unsigned fraction = bits & ((1U << n_fraction) - 1);
  const unsigned exponent = (bits & 0x7F) >> n_fraction;
  const double part = fraction / static_cast<double>(1U << n_fraction);
  const double size = exponent == 0 ? std::pow(2.0, 1 - bias) * part
                                    : std::pow(2.0, static_cast<int>(exponent) - bias) * (1 + part);
  return (bits & 0x80) != 0 ? -size : size;
}

TEST(Float8, HasTheValuesOfE4M3) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    const float value = Fp8E4M3ToFloat(static_cast<std::uint8_t>(bits));
    if ((bits & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(value, ByFormula(bits, 3, 7)) << bits;
    }
  }
  EXPECT_EQ(Fp8E4M3ToFloat(0x7E), 448.0F);
  EXPECT_EQ(Fp8E4M3ToFloat(0x01), 0x1p-9F);
  EXPECT_TRUE(std::signbit(Fp8E4M3ToFloat(0x80)));
}

TEST(Float8, HasTheValuesOfE5M2) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    const float value = Fp8E5M2ToFloat(static_cast<std::uint8_t>(bits));
    if ((bits & 0x7F) > 0x7C) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else if ((bits & 0x7F) < 0x7C) {
      EXPECT_EQ(value, ByFormula(bits, 2, 15)) << bits;
    }
  }
  EXPECT_EQ(Fp8E5M2ToFloat(0x7B), 57344.0F);
  EXPECT_EQ(Fp8E5M2ToFloat(0x01), 0x1p-16F);
  EXPECT_EQ(Fp8E5M2ToFloat(0xFC), -std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace phiq
