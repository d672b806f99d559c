// What must hold for every row and every method of integer groups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>

#include "kernels/encoding_testing.h"

namespace phiq {
namespace {

using testing::Each;

class IntegerMethods : public testing::TestWithParam<Recipe> {
 protected:
  const Recipe& recipe_ = GetParam();
  const Encoding& encoding_ = GetParam().encoding;
  const GroupEncoding& groups_ = std::get<GroupEncoding>(GetParam().encoding);
  std::mt19937 rng_{5};
};

TEST_P(IntegerMethods, KeepTheBoundOfEachWeight) {
  for (std::size_t row = 0; row < 400; ++row) {
    const std::vector<float> x = MixedRow(rng_, 1 + 37 * row % 600);
    const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
    const ErrorBound bound = BoundOf(encoding_, x.size());
    ASSERT_LE(WorstBlock(bound, x, y), bound.block_error) << "row " << row;
  }
}

TEST_P(IntegerMethods, KeepTheBoundOfATensor) {
  std::vector<float> x = GaussianWeights(1 << 16, 6);
  const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
  const double bound = BoundOf(encoding_, x.size()).relative_rmse;
  EXPECT_LE(RelativeRmse(x, y), bound / 1.8);
  EXPECT_GE(RelativeRmse(x, y), bound / (groups_.group_size == 0 ? 8 : 4));  // not too wide either
}

TEST_P(IntegerMethods, DecodeZeroToZero) {
  for (std::size_t row = 0; row < 200; ++row) {
    std::vector<float> x = MixedRow(rng_, 256);
    for (std::size_t i = 0; i < x.size(); i += 3) x[i] = 0.0F;
    const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
    for (std::size_t i = 0; i < x.size(); i += 3) ASSERT_EQ(y[i], 0.0F) << "row " << row;
  }
  EXPECT_THAT(EncodedRow(recipe_, std::vector<float>(300)).Decoded(), Each(0.0F));
}

TEST_P(IntegerMethods, TakeRowsOfEveryLength) {
  const std::size_t group_size = std::max<std::size_t>(groups_.group_size, 16);
  for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{15}, group_size - 1,
                              group_size, group_size + 1, 3 * group_size - 1}) {
    const std::vector<float> x = GaussianWeights(n, 7);
    const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
    const ErrorBound bound = BoundOf(encoding_, n);
    EXPECT_LE(WorstBlock(bound, x, y), bound.block_error) << n;
  }
}

// The sanitizers look at these: no cast, shift or index goes wrong, whatever the codes are.
TEST_P(IntegerMethods, TakeWeightsOfAllMagnitudes) {
  for (const float size : {1e-45F, 1e-42F, 1e-39F, 1e-38F, 3e-38F, 1e-30F, 1e-15F, 1e-8F, 6e-8F,
                           6e4F, 7e4F, 1e19F, 1e30F, 9e37F}) {
    for (const float first : {1.0F, -1.0F, 0.0F}) {
      std::vector<float> x(70);
      std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
      for (float& v : x) v = size * uniform(rng_);
      x[0] = size * first;
      const EncodedRow row(recipe_, x);
      const std::vector<float> y = row.Decoded();
      if (FindNonFinite(encoding_, row.Spans(), x.size())) {
        EXPECT_TRUE(size >= 1e4F && HasHalfRange(encoding_)) << size;
        continue;
      }
      const ErrorBound bound = BoundOf(encoding_, x.size());
      // k_quant squares weights; beyond 1e18 it falls back to its first guess.
      EXPECT_LE(WorstBlock(bound, x, y), bound.block_error) << size;
    }
  }
}

// Those with several groups in a row.
class GroupedMethods : public IntegerMethods {};

TEST_P(GroupedMethods, EncodeEachGroupAlone) {
  const std::vector<float> x = MixedRow(rng_, 4 * groups_.group_size);
  const std::vector<float> y = EncodedRow(recipe_, x).Decoded();
  for (std::size_t g = 0; g < 4; ++g) {
    const auto group = std::span(x).subspan(g * groups_.group_size, groups_.group_size);
    const std::vector<float> alone = EncodedRow(recipe_, group).Decoded();
    for (std::size_t i = 0; i < group.size(); ++i)
      ASSERT_EQ(alone[i], y[g * groups_.group_size + i]) << "group " << g;
  }
}

// Symmetric grids hold their own points, and the extreme keeps its place. (With zero points "rtn"
// and "k_quant" choose another range for a cut group.)
class IdempotentMethods : public IntegerMethods {};

TEST_P(IdempotentMethods, EncodeTheirOwnOutputToTheSameWeights) {
  for (std::size_t row = 0; row < 100; ++row) {
    std::vector<float> x = GaussianWeights(256, static_cast<unsigned>(row));
    const std::vector<float> once = EncodedRow(recipe_, x).Decoded();
    const std::vector<float> twice = EncodedRow(recipe_, once).Decoded();
    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(twice[i], once[i], 1e-3F * std::abs(once[i])) << "row " << row;
  }
}

// Two groups that changed places do not pass for what they were made from.
TEST_P(GroupedMethods, LeaveTheBoundWhenGroupsChangePlaces) {
  int n_noticed = 0;
  for (unsigned seed = 0; seed < 100; ++seed) {
    const std::vector<float> x = GaussianWeights(2 * groups_.group_size, seed);
    std::vector<float> y = EncodedRow(recipe_, x).Decoded();
    std::rotate(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(groups_.group_size), y.end());
    const ErrorBound bound = BoundOf(encoding_, x.size());
    EXPECT_GT(RelativeRmse(x, y), bound.relative_rmse) << seed;
    n_noticed += WorstBlock(bound, x, y) > bound.block_error ? 1 : 0;
  }
  EXPECT_GE(n_noticed, 95);  // with zero points an error may reach the largest weight itself
}

template <typename Predicate>
std::vector<Recipe> RecipesThat(const Predicate& predicate) {
  std::vector<Recipe> recipes = IntegerRecipes();
  std::erase_if(recipes, [&](const Recipe& recipe) {
    return !predicate(std::get<GroupEncoding>(recipe.encoding), *recipe.method);
  });
  return recipes;
}

std::string NameOf(const testing::TestParamInfo<Recipe>& recipe) { return TestName(recipe.param); }

INSTANTIATE_TEST_SUITE_P(, IntegerMethods, testing::ValuesIn(IntegerRecipes()), NameOf);
INSTANTIATE_TEST_SUITE_P(, GroupedMethods,
                         testing::ValuesIn(RecipesThat([](const GroupEncoding& s, const Method&) {
                           return s.group_size != 0;
                         })),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(, IdempotentMethods,
                         testing::ValuesIn(RecipesThat([](const GroupEncoding& s,
                                                          const Method& method) {
                           return !HasZeroPoints(s) && &method != &kRtn;
                         })),
                         NameOf);

// docs/quantization.md "onnxruntime's integer blocks", "NNCF's integer groups" and
// "llm-compressor's integer groups" print these.
TEST(IntegerErrors, OfGaussianWeightsAreThoseOfTheDocumentation) {
  struct Row {
    GroupEncoding groups;
    const Method* method;
    double error;
  };
  const std::vector<float> x = GaussianWeights(1 << 20, 8);
  for (const Row& row :
       std::vector<Row>{{Integers(4, kSymmetric, 32), &kMlas, 0.0862},
                        {Integers(4, kAsymmetric, 32), &kMlas, 0.0807},
                        {Integers(8, kSymmetric, 32), &kMlas, 0.0053},
                        {Integers(8, kAsymmetric, 32), &kMlas, 0.0048},
                        {Integers(4, kSymmetric, 32), &kRtn, 0.0948},
                        {Integers(4, kAsymmetric, 32), &kRtn, 0.0807},
                        {Integers(8, kSymmetric, 32), &kRtn, 0.0056},
                        {Integers(8, kAsymmetric, 32), &kRtn, 0.0048},
                        {Integers(4, kAsymmetric, 32), &kKQuant, 0.0820},
                        {Integers(8, kAsymmetric, 32), &kKQuant, 0.0048},
                        {Integers(4, kSymmetric, 32), &kGather, 0.0862},
                        {Integers(4, kAsymmetric, 32), &kGather, 0.0807},
                        {Integers(4, kSymmetric, 32), &kNearest, 0.0969},
                        {Integers(8, kSymmetric, 32), &kNearest, 0.0054},
                        {Integers(4, kSymmetric, 128, ScaleType::kF16), &kNncf, 0.1030},
                        {Integers(4, kAsymmetric, 128, ScaleType::kF16), &kNncf, 0.1000},
                        {Integers(8, kSymmetric, 4096, ScaleType::kF16), &kNncf, 0.0087},
                        {Integers(8, kAsymmetric, 4096, ScaleType::kF16), &kNncf, 0.0083},
                        {Integers(4, kSymmetric, 128, ScaleType::kBF16), &kMinMax, 0.1108},
                        {Integers(4, kAsymmetric, 128, ScaleType::kBF16), &kMinMax, 0.1006},
                        {Integers(8, kSymmetric, 4096, ScaleType::kBF16), &kMinMax, 0.0094}}) {
    const Recipe recipe{row.groups, row.method};
    const double error = RelativeRmse(x, EncodedRow(recipe, x).Decoded());
    // Seeds differ by less than 0.5 %, and the figures have four decimals.
    EXPECT_NEAR(error, row.error, 0.005 * row.error + 5e-5) << TestName(recipe);
  }
}

}  // namespace
}  // namespace phiq
