// Rounding to nearest, by hand and on random rows; and the packing of codes.
#include "phiq/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/bits.h"
#include "kernels/encoding_testing.h"

namespace phiq {
namespace {

using testing::Each;
using testing::ElementsAre;

Groups QuantizeAndDecode(const GroupEncoding& encoding, const std::vector<float>& x) {
  return GroupsOf(encoding, kNearest, x);
}

TEST(GroupCount, CountsAShorterLastGroup) {
  EXPECT_EQ(GroupCount({.group_size = 0}, 100), 1U);
  EXPECT_EQ(GroupCount({.group_size = 32}, 96), 3U);
  EXPECT_EQ(GroupCount({.group_size = 32}, 97), 4U);
  EXPECT_EQ(GroupCount({.group_size = 128}, 1), 1U);
  EXPECT_EQ(GroupCount({.group_size = std::numeric_limits<std::size_t>::max()}, 5), 1U);
}

// Largest 7 of qmax 7: the scale is 1 and every weight is in units of codes.
TEST(Nearest, SymmetricInt4RoundsTiesToEven) {
  const Groups q = QuantizeAndDecode(Integers(4, kSymmetric, 0),
                                     {7.0F, -7.0F, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 0.49F});
  EXPECT_THAT(q.scales, ElementsAre(1.0F));
  EXPECT_THAT(q.zero_points, ElementsAre(8));
  EXPECT_THAT(q.codes, ElementsAre(15, 1, 8, 10, 10, 8, 6, 8));
  EXPECT_THAT(q.decoded, ElementsAre(7.0F, -7.0F, 0.0F, 2.0F, 2.0F, 0.0F, -2.0F, 0.0F));
}

TEST(Nearest, SymmetricInt8UsesCodes1To255) {
  const Groups q =
      QuantizeAndDecode(Integers(8, kSymmetric, 0), {-63.5F, 63.5F, 0.0F, 0.75F, 1.25F});
  EXPECT_THAT(q.scales, ElementsAre(0.5F));
  EXPECT_THAT(q.zero_points, ElementsAre(128));
  EXPECT_THAT(q.codes, ElementsAre(1, 255, 128, 130, 130));  // 1.5 -> 2 and 2.5 -> 2
}

// -1 ... 2.75 in 15 steps of 0.25: the zero point is code 4.
TEST(Nearest, AffineInt4PlacesTheZeroPoint) {
  const Groups q =
      QuantizeAndDecode(Integers(4, kAsymmetric, 0), {-1.0F, 2.75F, 0.0F, 0.125F, 0.375F, -0.375F});
  EXPECT_THAT(q.scales, ElementsAre(0.25F));
  EXPECT_THAT(q.zero_points, ElementsAre(4));
  EXPECT_THAT(q.codes, ElementsAre(0, 15, 4, 4, 6, 2));
  EXPECT_THAT(q.decoded, ElementsAre(-1.0F, 2.75F, 0.0F, 0.0F, 0.5F, -0.5F));
}

// 1.5 / 1 is a tie: zero point 2, so -1.5 falls to code 0 (-2) and 13.5 to code 15 (13, cut).
TEST(Nearest, AffineInt4CutsTheEndThatTheZeroPointPushesOut) {
  const Groups q = QuantizeAndDecode(Integers(4, kAsymmetric, 0), {-1.5F, 13.5F});
  EXPECT_THAT(q.scales, ElementsAre(1.0F));
  EXPECT_THAT(q.zero_points, ElementsAre(2));
  EXPECT_THAT(q.codes, ElementsAre(0, 15));
  EXPECT_THAT(q.decoded, ElementsAre(-2.0F, 13.0F));
}

TEST(Nearest, AffineZeroPointStaysAmongTheCodesForOneSidedGroups) {
  const GroupEncoding spec = Integers(8, kAsymmetric, 2);
  const Groups q = QuantizeAndDecode(spec, {255.0F, 100.0F, -255.0F, -100.0F});
  EXPECT_THAT(q.scales, ElementsAre(1.0F, 1.0F));
  EXPECT_THAT(q.zero_points, ElementsAre(0, 255));
  EXPECT_THAT(q.codes, ElementsAre(255, 100, 0, 155));
}

TEST(Nearest, GroupsAreIndependentAndTheLastMayBeShorter) {
  const GroupEncoding spec = Integers(4, kSymmetric, 2);
  const Groups q = QuantizeAndDecode(spec, {7.0F, 1.0F, 14.0F, 2.0F, -3.5F});
  EXPECT_THAT(q.scales, ElementsAre(1.0F, 2.0F, 0.5F));
  EXPECT_THAT(q.codes, ElementsAre(15, 9, 15, 9, 1));
}

TEST(Nearest, NegligibleGroupsDecodeToZero) {
  for (const float tiny : {0.0F, -0.0F, 1e-45F, 1e-38F, 9e-16F}) {
    const Groups symmetric = QuantizeAndDecode(Integers(8, kSymmetric, 0), {tiny, -tiny, 0.0F});
    EXPECT_THAT(symmetric.scales, ElementsAre(0.0F)) << tiny;
    EXPECT_THAT(symmetric.codes, Each(128)) << tiny;
    EXPECT_THAT(symmetric.decoded, Each(0.0F)) << tiny;
    const Groups affine = QuantizeAndDecode(Integers(4, kAsymmetric, 0), {tiny, -tiny, 0.0F});
    EXPECT_THAT(affine.scales, ElementsAre(0.0F)) << tiny;
    EXPECT_THAT(affine.zero_points, ElementsAre(0)) << tiny;
    EXPECT_THAT(affine.codes, Each(0)) << tiny;
    EXPECT_THAT(affine.decoded, Each(0.0F)) << tiny;
  }
}

// 3.7 / 7 is no half: the codes are those of the scale that is stored.
TEST(Nearest, CodesAreThoseOfTheHalfThatIsStored) {
  const Groups q =
      QuantizeAndDecode(PositiveIntegers(4, 0, ScaleType::kF16), {3.7F, -1.0F, 0.0F, 0.793F});
  constexpr float kScale = 0.52880859375F;  // the half nearest to 0.528571
  EXPECT_THAT(q.scales, ElementsAre(kScale));
  // 0.793 is 1.5003 times the scale as it was, and 1.4996 times the half.
  EXPECT_THAT(q.codes, ElementsAre(15, 6, 8, 9));
  EXPECT_THAT(q.decoded, ElementsAre(7 * kScale, -2 * kScale, 0.0F, kScale));
}

TEST(Nearest, PositiveScalesAreNeverZero) {
  const Groups zeros = QuantizeAndDecode(PositiveIntegers(8, 0, ScaleType::kF32), {0.0F, -0.0F});
  EXPECT_THAT(zeros.scales, ElementsAre(1.0F));
  EXPECT_THAT(zeros.decoded, Each(0.0F));
  // 1e-8 / 7 is no half above 0: the least one.
  const Groups tiny = QuantizeAndDecode(PositiveIntegers(4, 0, ScaleType::kF16), {1e-8F, -1e-8F});
  EXPECT_THAT(tiny.scales, ElementsAre(0x1p-24F));
  EXPECT_THAT(tiny.decoded, Each(0.0F));
}

class NearestOnRandomRows : public testing::TestWithParam<GroupEncoding> {
 protected:
  std::vector<float> Row(std::size_t n) {
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
    const float sd = std::pow(10.0F, 5.0F * uniform(rng_) - 4.0F);
    const float shift = uniform(rng_) < 0.5F ? 0.0F : 4.0F * sd * (uniform(rng_) - 0.5F);
    std::vector<float> x(n);
    for (float& v : x) {
      v = uniform(rng_) < 0.1F ? 0.0F : sd * normal(rng_) + shift;
      if (uniform(rng_) < 0.02F) v *= 20.0F;
    }
    return x;
  }

  std::mt19937 rng_{1};
};

TEST_P(NearestOnRandomRows, KeepsTheBoundOfTheHeader) {
  const GroupEncoding& spec = GetParam();
  for (int row = 0; row < 1000; ++row) {
    const std::vector<float> x = Row(1 + static_cast<std::size_t>(row) % 300);
    const Groups q = QuantizeAndDecode(spec, x);
    const std::size_t group_size = spec.group_size == 0 ? x.size() : spec.group_size;
    for (std::size_t c = 0; c < x.size(); ++c) {
      const float scale = q.scales[c / group_size];
      const bool at_end = q.codes[c] == 0 || q.codes[c] == (1 << BitsOf(spec.code)) - 1;
      const float steps = HasZeroPoints(spec) && at_end ? 1.0F : 0.5F;
      // 2^(bits + 1) roundings of 2^-24 at most, of values up to 2^bits scales.
      const float rounding = 1e-6F * std::ldexp(scale, BitsOf(spec.code));
      ASSERT_LE(std::abs(x[c] - q.decoded[c]), steps * scale + rounding) << "row " << row;
      if (x[c] == 0.0F) {
        ASSERT_EQ(q.decoded[c], 0.0F);
      }
    }
  }
}

TEST_P(NearestOnRandomRows, CodesAndZeroPointsStayInRange) {
  const GroupEncoding& spec = GetParam();
  for (int row = 0; row < 1000; ++row) {
    const Groups q = QuantizeAndDecode(spec, Row(128));
    ASSERT_LT(*std::max_element(q.codes.begin(), q.codes.end()), 1 << BitsOf(spec.code));
    if (HasZeroPoints(spec)) continue;
    ASSERT_THAT(q.zero_points, Each(1 << (BitsOf(spec.code) - 1)));
    ASSERT_GE(*std::min_element(q.codes.begin(), q.codes.end()), 1);
  }
}

class NearestSymmetric : public NearestOnRandomRows {};

TEST_P(NearestSymmetric, NegatedRowsGiveNegatedWeights) {
  for (int row = 0; row < 1000; ++row) {
    std::vector<float> x = Row(70);
    const std::vector<float> y = QuantizeAndDecode(GetParam(), x).decoded;
    for (float& v : x) v = -v;
    const std::vector<float> negated = QuantizeAndDecode(GetParam(), x).decoded;
    for (std::size_t c = 0; c < y.size(); ++c) ASSERT_EQ(negated[c], -y[c]);
  }
}

std::string SpecName(const testing::TestParamInfo<GroupEncoding>& test) {
  return (HasZeroPoints(test.param) ? "AffineInt" : "SymmetricInt") +
         std::to_string(BitsOf(test.param.code)) + "Group" + std::to_string(test.param.group_size);
}

INSTANTIATE_TEST_SUITE_P(, NearestOnRandomRows,
                         testing::Values(Integers(4, kSymmetric, 32), Integers(4, kAsymmetric, 32),
                                         Integers(4, kAsymmetric, 128), Integers(8, kSymmetric, 0),
                                         Integers(8, kAsymmetric, 0), Integers(8, kSymmetric, 64)),
                         SpecName);
INSTANTIATE_TEST_SUITE_P(, NearestSymmetric,
                         testing::Values(Integers(4, kSymmetric, 32), Integers(8, kSymmetric, 0)),
                         SpecName);

// 5 bits: 1, 2, 31, 0, 9 are 00001, 00010, 11111, 00000 and 01001, read from the right.
TEST(PackBits, PutsTheFirstCodeInTheLowestBits) {
  const std::vector<std::uint8_t> codes = {1, 2, 15, 0, 9};
  std::vector<std::byte> nibbles(3);
  PackBits(4, codes, nibbles);
  EXPECT_THAT(nibbles, ElementsAre(std::byte{0x21}, std::byte{0x0F}, std::byte{0x09}));
  std::vector<std::byte> fives(4);
  PackBits(5, std::vector<std::uint8_t>{1, 2, 31, 0, 9}, fives);
  EXPECT_THAT(fives,
              ElementsAre(std::byte{0x41}, std::byte{0x7C}, std::byte{0x90}, std::byte{0x00}));
}

TEST(UnpackBits, IsTheInverseForEveryWidthAndLength) {
  std::mt19937 rng(2);
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (std::size_t n = 1; n <= 40; ++n) {
      std::vector<std::uint8_t> codes(n);
      for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(rng() % (1U << bits));
      std::vector<std::byte> packed(PackedBytes(bits, n));
      PackBits(bits, codes, packed);
      std::vector<std::uint8_t> unpacked(n);
      UnpackBits(bits, packed, unpacked);
      EXPECT_EQ(unpacked, codes) << bits << " bits, " << n << " codes";
    }
  }
}

}  // namespace
}  // namespace phiq
