// What must hold for every row and every kind of MLX's groups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "kernels/encoding_testing.h"

namespace phiq {
namespace {

using testing::Each;

class MlxGroups : public testing::TestWithParam<Recipe> {
 protected:
  // Where E4M3 has no scale, RowCodec says so; there is no error to bound.
  bool IsBeyondE4m3(std::span<const float> x) const {
    return encoding_ == kNvfp4 &&
           std::any_of(x.begin(), x.end(), [](float v) { return std::abs(v) > 464 * 6; });
  }
  void ExpectBoundOfEachWeight(std::span<const float> x) const {
    if (IsBeyondE4m3(x)) return;
    const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
    const ErrorBound bound = BoundOf(encoding_, x.size());
    EXPECT_LE(WorstBlock(bound, x, y), bound.block_error);
  }

  const Recipe& recipe_ = GetParam();
  const GroupEncoding& encoding_ = std::get<GroupEncoding>(GetParam().encoding);
  const bool has_half_range_ = GetParam().method->weights == FloatType::kF16;
  const std::size_t group_size_ = encoding_.group_size;
  std::mt19937 rng_{5};
  std::uniform_real_distribution<float> uniform_{-1.0F, 1.0F};
};

TEST_P(MlxGroups, KeepTheBoundOfEachWeight) {
  for (std::size_t row = 0; row < 400; ++row) ExpectBoundOfEachWeight(MixedRow(rng_, 512));
}

// Groups whose worst weight can be worked out: the end that is clipped, for every q0 from the
// middle code to the last; the largest weight between two codes, at every place in its octave.
TEST_P(MlxGroups, KeepTheBoundWhereItIsTight) {
  double worst = 0;
  for (int i = 0; i <= 4096; ++i) {
    std::vector<float> x(group_size_);
    for (float& v : x) v = uniform_(rng_) * 0.5F;
    x[0] = 1.0F + static_cast<float>(i) / 4096.0F;
    x[1] = -x[0] * (1.0F - static_cast<float>(rng_() % 1024) / 1024.0F);
    ExpectBoundOfEachWeight(x);
    for (float& v : x) v = -v;
    ExpectBoundOfEachWeight(x);
    const ErrorBound bound = BoundOf(encoding_, x.size());
    worst =
        std::max(worst, WorstBlock(bound, x, EncodedRow(recipe_, x).Decoded()) / bound.block_error);
  }
  // Not too wide either. (With 8 bits and BF16 the scale and the clipping count alike, and seldom
  // are both at their worst; the bound of nvfp4 is that of subnormal scales.)
  EXPECT_GE(worst, encoding_ == kNvfp4 ? 0.3 : 0.55);
}

TEST_P(MlxGroups, KeepTheBoundOfATensor) {
  const std::vector<float> x = GaussianWeights(1 << 16, 6, 0.1F);
  const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
  const double bound = BoundOf(encoding_, x.size()).relative_rmse;
  EXPECT_LE(RelativeRmse(x, y), bound / 1.8);
  EXPECT_GE(RelativeRmse(x, y), bound / 2.4);
}

TEST_P(MlxGroups, DecodeZerosToZeros) {
  EXPECT_THAT(EncodedRow(recipe_, std::vector<float>(256)).Decoded(), Each(0.0F));
  EXPECT_THAT(EncodedRow(recipe_, std::vector<float>(256, -0.0F)).Decoded(), Each(0.0F));
}

TEST_P(MlxGroups, EncodeEachGroupAlone) {
  const std::vector<float> x = MixedRow(rng_, 4 * group_size_);
  const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
  for (std::size_t g = 0; g < 4; ++g) {
    const auto group = std::span(x).subspan(g * group_size_, group_size_);
    const std::vector<float> alone = EncodedRow(recipe_, group).Decoded();
    for (std::size_t i = 0; i < group.size(); ++i)
      ASSERT_EQ(alone[i], y[g * group_size_ + i]) << "group " << g;
  }
}

// Two groups that changed places do not pass for what they were made from.
TEST_P(MlxGroups, LeaveTheBoundWhenGroupsChangePlaces) {
  int n_noticed = 0;
  for (unsigned seed = 0; seed < 100; ++seed) {
    const std::vector<float> x = GaussianWeights(2 * group_size_, seed);
    std::vector<float> y = EncodedRow(recipe_, x).Decoded();
    std::rotate(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(group_size_), y.end());
    const ErrorBound bound = BoundOf(encoding_, x.size());
    double squared = 0;
    for (const float v : x) squared += double{v} * v;
    const double rms = std::sqrt(squared / static_cast<double>(x.size()));
    EXPECT_GT(RelativeRmse(x, y), bound.relative_rmse + bound.slack / rms) << seed;
    n_noticed += WorstBlock(bound, x, y) > bound.block_error ? 1 : 0;
  }
  EXPECT_EQ(n_noticed, 100);
}

// The sanitizers look at these: no cast, shift or index goes wrong, whatever the scales are.
TEST_P(MlxGroups, TakeWeightsOfAllMagnitudes) {
  for (const float size : {1e-45F, 1e-42F, 1e-40F, 1e-38F, 3e-38F, 1e-30F, 1e-15F, 1e-8F,
                           5e-8F,  6e-8F,  1e-7F,  2e-7F,  4e-7F,  1e-6F,  4e-6F,  2e-5F,
                           1e-4F,  1e-3F,  5e-3F,  6e4F,   7e4F,   1e19F,  1e30F,  9e37F}) {
    for (const float first : {1.0F, -1.0F, 0.0F}) {
      for (const float offset : {0.0F, 0.5F, -0.5F}) {
        std::vector<float> x(256);
        for (float& v : x) v = size * (0.5F * uniform_(rng_) + offset);
        x[0] = size * first;
        const EncodedRow row(recipe_, x);
        if (FindNonFinite(encoding_, row.Spans(), x.size())) {
          EXPECT_TRUE((size > 6e4F && has_half_range_) || IsBeyondE4m3(x)) << size;
          continue;
        }
        ExpectBoundOfEachWeight(x);
      }
    }
  }
}

TEST_P(MlxGroups, TakeConstants) {
  for (const float size : {1e-45F, 1e-38F, 1e-30F, 5e-8F, 1e-7F, 1e-5F, 0.02F, 1.0F, 3e4F, 1e30F}) {
    if (size > 6e4F && has_half_range_) continue;
    for (const float constant : {size, -size}) {
      ExpectBoundOfEachWeight(std::vector<float>(256, constant));
      std::vector<float> near(256);
      for (float& v : near) v = constant * (1.0F + 1e-6F * uniform_(rng_));
      ExpectBoundOfEachWeight(near);
    }
  }
}

// Scales far apart in one row, and in one group.
TEST_P(MlxGroups, TakeHugeRanges) {
  for (int row = 0; row < 100; ++row) {
    std::vector<float> x(256);
    for (float& v : x) v = std::exp2(80.0F * uniform_(rng_)) * (rng_() % 2 == 0 ? 1.0F : -1.0F);
    if (has_half_range_ || encoding_ == kNvfp4)
      for (float& v : x) v = std::clamp(v, -2048.0F, 2048.0F);
    ExpectBoundOfEachWeight(x);
  }
}

// Those whose scale is a power of two: a small float is its own nearest one. (The largest may have
// become the smallest of its octave, whose scale is half as large: that one has the other weights
// too. Weights near 1 have scales that are normal halves.)
class MlxPowersOfTwo : public MlxGroups {};

TEST_P(MlxPowersOfTwo, EncodeTheirOwnOutputToTheSameWeights) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    const std::vector<float> x = GaussianWeights(256, seed, 1.0F);
    const std::vector<float> once = EncodedRow(recipe_, x).Decoded();
    ASSERT_EQ(EncodedRow(recipe_, once).Decoded(), once) << seed;
  }
}

std::vector<Recipe> PowersOfTwo() {
  std::vector<Recipe> recipes = MlxRecipes();
  std::erase_if(recipes, [](const Recipe& recipe) {
    return recipe.encoding != Encoding(kMxfp4) && recipe.encoding != Encoding(kMxfp8);
  });
  return recipes;
}

std::string NameOf(const testing::TestParamInfo<Recipe>& recipe) { return TestName(recipe.param); }

INSTANTIATE_TEST_SUITE_P(, MlxGroups, testing::ValuesIn(MlxRecipes()), NameOf);
INSTANTIATE_TEST_SUITE_P(, MlxPowersOfTwo, testing::ValuesIn(PowersOfTwo()), NameOf);

// The figures of a model of mx.quantize in numpy, for BF16 weights.
TEST(MlxErrors, OfGaussianWeightsAreTheKnownOnes) {
  struct Row {
    GroupEncoding encoding;
    double error;
  };
  std::vector<float> x = GaussianWeights(1 << 20, 8);
  for (float& v : x) v = Bf16ToFloat(FloatToBf16(v));
  const auto affine = [](int bits, std::size_t group_size) {
    return Affine(bits, group_size, FloatType::kBF16);
  };
  for (const Row& row : std::vector<Row>{{affine(8, 64), 0.0068},
                                         {affine(6, 64), 0.0220},
                                         {affine(5, 64), 0.0442},
                                         {affine(4, 32), 0.0812},
                                         {affine(4, 64), 0.0909},
                                         {affine(4, 128), 0.0999},
                                         {affine(3, 64), 0.190},
                                         {affine(2, 64), 0.394},
                                         {kMxfp4, 0.118},
                                         {kNvfp4, 0.103},
                                         {kMxfp8, 0.0266}}) {
    const Recipe recipe{row.encoding, &MlxMethod(MlxRounding::kCpu, FloatType::kBF16)};
    const double error = RelativeRmse(x, EncodedRow(recipe, x).Decoded());
    // Seeds differ by 0.5 % or so, and the figures have three digits.
    EXPECT_NEAR(error, row.error, 0.01 * row.error) << TestName(recipe);
  }
}

}  // namespace
}  // namespace phiq
