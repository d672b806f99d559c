// kMinMax by hand; that it is llm-compressor's arithmetic is tests/peers/torch's to say.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/encoding_testing.h"

namespace phiq {
namespace {

using Codes = std::vector<std::uint8_t>;

TEST(MinMax, PutsTheLargestMagnitudeHalfAStepBeyondTheLastCode) {
  // 3.75 / 7.5; 1.25 / 0.5 and 0.75 / 0.5 are ties, which go to even.
  const Groups groups = GroupsOf(Integers(4, kSymmetric, 0, ScaleType::kBF16), kMinMax,
                                 std::vector{3.75F, -3.75F, 1.25F, 0.75F, 0.0F});
  EXPECT_EQ(groups.scales[0], 0.5F);
  EXPECT_EQ(groups.codes, (Codes{15, 0, 10, 10, 8}));
}

TEST(MinMax, RoundsQuotientsToTheTypeOfTheScales) {
  // 63.75 / 127.5 is 0.5. In BF16 31.7 becomes 31.75, whose quotient 63.5 is a tie; in float32 it
  // is 63.4.
  const std::vector<float> x = {63.75F, 31.7F, 0.0F};
  const Groups groups = GroupsOf(Integers(8, kSymmetric, 0, ScaleType::kBF16), kMinMax, x);
  EXPECT_EQ(groups.scales[0], 0.5F);
  EXPECT_EQ(groups.codes, (Codes{255, 192, 128}));
  EXPECT_EQ(GroupsOf(Integers(8, kSymmetric, 0, ScaleType::kF32), kMinMax, x).codes,
            (Codes{255, 191, 128}));
}

TEST(MinMax, HasZeroPointsOfARangeWithZero) {
  // From -1 to 2: 15 steps of 0.2, rounded to BF16; 0 is code 5.
  const Groups groups = GroupsOf(Integers(4, kAsymmetric, 0, ScaleType::kBF16), kMinMax,
                                 std::vector{-1.0F, 2.0F, 0.0F, 0.4F});
  EXPECT_EQ(groups.scales[0], 0.2001953125F);
  EXPECT_EQ(groups.zero_points[0], 5);
  EXPECT_EQ(groups.codes, (Codes{0, 15, 5, 7}));
  // Of one sign: from 0 to 3.
  const Groups above =
      GroupsOf(Integers(4, kAsymmetric, 0, ScaleType::kF32), kMinMax, std::vector{3.0F, 1.0F});
  EXPECT_EQ(above.zero_points[0], 0);
  EXPECT_EQ(above.codes, (Codes{15, 5}));
}

TEST(MinMax, HasNoScaleOfZero) {
  for (const bool symmetric : {kSymmetric, kAsymmetric}) {
    const std::vector<float> zeros(4);
    const Groups bf16 = GroupsOf(Integers(4, symmetric, 0, ScaleType::kBF16), kMinMax, zeros);
    EXPECT_EQ(bf16.scales[0], 0x1p-7F);
    EXPECT_EQ(bf16.codes, (Codes{8, 8, 8, 8}));
    EXPECT_EQ(GroupsOf(Integers(4, symmetric, 0, ScaleType::kF16), kMinMax, zeros).scales[0],
              0x1p-10F);
    EXPECT_EQ(GroupsOf(Integers(4, symmetric, 0, ScaleType::kF32), kMinMax, zeros).scales[0],
              0x1p-23F);
  }
}

}  // namespace
}  // namespace phiq
