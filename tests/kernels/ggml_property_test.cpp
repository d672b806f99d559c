// What must hold for every row: error bounds, symmetry, order, and independence of blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/endian.h"
#include "base/half.h"
#include "kernels/ggml_testing.h"

namespace phiq {
namespace {

// Rows of many kinds: normal, uniform, one-sided, outliers, many zeros, constant, bfloat16.
std::vector<float> MixedRow(std::mt19937& rng, std::size_t n) {
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  const float sd = std::pow(10.0F, 5.0F * uniform(rng) - 4.0F);
  const auto kind = rng() % 7;
  const float constant = sd * normal(rng);
  std::vector<float> x(n);
  for (float& v : x) {
    v = sd * normal(rng);
    if (kind == 1) v = sd * (2.0F * uniform(rng) - 1.0F);
    if (kind == 2) v = std::abs(v) + sd;
    if (kind == 3 && uniform(rng) < 0.02F) v *= 20.0F;
    if (kind == 4 && uniform(rng) < 0.15F) v = 0.0F;
    if (kind == 5) v = constant;
    if (kind == 6) v = Bf16ToFloat(FloatToBf16(v));
  }
  return x;
}

double Rmse(std::span<const float> x, std::span<const float> y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

double RelativeRmse(std::span<const float> x, std::span<const float> y) {
  return Rmse(x, y) / Rmse(x, std::vector<float>(x.size()));
}

using Types = std::vector<GgmlType>;
const Types kBlockTypes = {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0,
                           GgmlType::kQ5_1, GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ4_K,
                           GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kIQ4_NL,
                           GgmlType::kIQ4_XS};

// One row of 10,240 blocks for each type, a new kind every 32 blocks, encoded and decoded once.
struct Corpus {
  std::vector<float> x;
  std::vector<std::byte> bytes;
  std::vector<float> y;
};

const Corpus& CorpusOf(GgmlType type) {
  static std::map<GgmlType, Corpus> all;
  Corpus& corpus = all[type];
  if (corpus.x.empty()) {
    std::mt19937 rng(11);
    for (int i = 0; i < 320; ++i) {
      const std::vector<float> row = MixedRow(rng, 32 * GetGgmlTypeInfo(type).block_size);
      corpus.x.insert(corpus.x.end(), row.begin(), row.end());
    }
    corpus.bytes = Quantize(type, corpus.x);
    corpus.y = Dequantize(type, corpus.bytes);
  }
  return corpus;
}

class GgmlBlockType : public testing::TestWithParam<GgmlType> {};
class GgmlSimpleType : public GgmlBlockType {};
class GgmlSearchedType : public GgmlBlockType {};
class GgmlTypeWithZero : public GgmlBlockType {};
class GgmlSignSymmetricType : public GgmlBlockType {};

std::string NameOf(const testing::TestParamInfo<GgmlType>& test) { return TestName(test.param); }

INSTANTIATE_TEST_SUITE_P(, GgmlBlockType, testing::ValuesIn(kBlockTypes), NameOf);
INSTANTIATE_TEST_SUITE_P(, GgmlSimpleType,
                         testing::ValuesIn(Types{GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_1,
                                                 GgmlType::kQ5_0, GgmlType::kQ5_1}),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(, GgmlSearchedType,
                         testing::ValuesIn(Types{GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ4_K,
                                                 GgmlType::kQ5_K, GgmlType::kQ6_K,
                                                 GgmlType::kIQ4_NL, GgmlType::kIQ4_XS}),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(, GgmlTypeWithZero,
                         testing::ValuesIn(Types{GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ5_0,
                                                 GgmlType::kQ3_K, GgmlType::kQ6_K}),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(, GgmlSignSymmetricType,
                         testing::ValuesIn(Types{GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ5_0,
                                                 GgmlType::kQ6_K, GgmlType::kIQ4_NL,
                                                 GgmlType::kIQ4_XS}),
                         NameOf);

// The scale before it became a half, worked from the weights.
struct Grid {
  float scale;
  float min = 0.0F;
  float first_code;
  float last_code;
};

Grid GridOf(GgmlType type, std::span<const float> x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const float amax = std::max(std::abs(*low), std::abs(*high));
  switch (type) {
    case GgmlType::kQ8_0: return {amax / 127, 0, -127, 127};
    case GgmlType::kQ4_0: return {amax / 8, 0, -8, 7};
    case GgmlType::kQ5_0: return {amax / 16, 0, -16, 15};
    case GgmlType::kQ4_1: return {(*high - *low) / 15, *low, 0, 15};
    default: return {(*high - *low) / 31, *low, 0, 31};
  }
}

TEST_P(GgmlSimpleType, ErrsByHalfAStepAndTheRoundingOfItsScale) {
  const Corpus& corpus = CorpusOf(GetParam());
  const GgmlTypeInfo& info = GetGgmlTypeInfo(GetParam());
  const bool has_min = GetParam() == GgmlType::kQ4_1 || GetParam() == GgmlType::kQ5_1;
  for (std::size_t b = 0; b < corpus.x.size() / 32; ++b) {
    const std::span<const float> x = std::span(corpus.x).subspan(32 * b, 32);
    const auto stored = std::span(corpus.bytes).subspan(b * info.block_bytes, info.block_bytes);
    const Grid grid = GridOf(info.type, x);
    const float stored_scale = Fp16ToFloat(LoadLe<std::uint16_t>(stored));
    const float scale_error = std::abs(grid.scale - std::abs(stored_scale));
    const float min_error =
        has_min ? std::abs(grid.min - Fp16ToFloat(LoadLe<std::uint16_t>(stored, 2))) : 0.0F;
    const float codes = std::max(-grid.first_code, grid.last_code);
    const float amax = std::max(std::abs(grid.min), codes * grid.scale);
    for (std::size_t e = 0; e < 32; ++e) {
      // Opposite to the extreme there is one step less: those weights are cut, by up to one step.
      const bool cut = !has_min && std::abs(x[e]) > grid.last_code * grid.scale;
      const float step = cut ? grid.scale : grid.scale / 2;
      ASSERT_LE(std::abs(x[e] - corpus.y[32 * b + e]),
                step + codes * scale_error + min_error + 1e-6F * amax)
          << "block " << b << ", weight " << e;
    }
  }
}

TEST_P(GgmlSimpleType, EncodesItsOwnOutputToTheSameBytes) {
  std::mt19937 rng(2);
  for (int i = 0; i < 4000; ++i) {
    std::vector<float> x = MixedRow(rng, 32);
    // A range far smaller than its offset is lost in the half-precision min.
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    if (std::abs(*low) > 64 * (*high - *low)) continue;
    const std::vector<std::byte> once = Quantize(GetParam(), x);
    ASSERT_EQ(ToHex(Quantize(GetParam(), Dequantize(GetParam(), once))), ToHex(once)) << i;
  }
}

TEST_P(GgmlTypeWithZero, KeepsZeroExact) {
  const Corpus& corpus = CorpusOf(GetParam());
  int n_zeros = 0;
  for (std::size_t i = 0; i < corpus.x.size(); ++i) {
    if (corpus.x[i] != 0.0F) continue;
    ++n_zeros;
    ASSERT_EQ(corpus.y[i], 0.0F) << "weight " << i;
  }
  EXPECT_GT(n_zeros, 1000);
}

TEST_P(GgmlSignSymmetricType, NegatedRowsDecodeToNegatedWeights) {
  const Corpus& corpus = CorpusOf(GetParam());
  std::vector<float> negated(corpus.x.size() / 4);
  for (std::size_t i = 0; i < negated.size(); ++i) negated[i] = -corpus.x[i];
  const std::vector<float> y = Dequantize(GetParam(), Quantize(GetParam(), negated));
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], -corpus.y[i]) << "weight " << i;
}

TEST_P(GgmlBlockType, KeepsTheOrderOfWeightsThatShareAScale) {
  const Corpus& corpus = CorpusOf(GetParam());
  const std::set<GgmlType> of_16 = {GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ6_K};
  const std::size_t group_size = of_16.contains(GetParam()) ? 16 : 32;
  for (std::size_t begin = 0; begin < corpus.x.size(); begin += group_size) {
    std::vector<std::pair<float, float>> pairs;
    for (std::size_t i = begin; i < begin + group_size; ++i) {
      pairs.emplace_back(corpus.x[i], corpus.y[i]);
    }
    std::sort(pairs.begin(), pairs.end());
    ASSERT_TRUE(std::is_sorted(pairs.begin(), pairs.end(),
                               [](const auto& a, const auto& b) { return a.second < b.second; }))
        << "weights from " << begin;
  }
}

// Exact as long as no scale is a subnormal half, which rows of this size avoid.
TEST_P(GgmlBlockType, ScalesWithPowersOfTwo) {
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(256 * 1000);
  for (float& v : x) v = normal(rng);
  std::vector<float> scaled = x;
  for (float& v : scaled) v *= 4.0F;
  const std::vector<float> y = Dequantize(GetParam(), Quantize(GetParam(), x));
  const std::vector<float> y_scaled = Dequantize(GetParam(), Quantize(GetParam(), scaled));
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y_scaled[i], 4.0F * y[i]) << "weight " << i;
}

TEST_P(GgmlBlockType, EncodesEachBlockAlone) {
  const Corpus& corpus = CorpusOf(GetParam());
  const GgmlTypeInfo& info = GetGgmlTypeInfo(GetParam());
  for (std::size_t b = 0; b < 1000; b += 7) {
    const auto x = std::span(corpus.x).subspan(b * info.block_size, info.block_size);
    const auto bytes = std::span(corpus.bytes).subspan(b * info.block_bytes, info.block_bytes);
    ASSERT_EQ(ToHex(Quantize(info.type, x)), ToHex(bytes)) << "block " << b;
  }
}

std::vector<float> GaussianWeights() {
  std::mt19937 rng(4);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> x(128 * 3072);
  for (float& v : x) v = Bf16ToFloat(FloatToBf16(normal(rng)));
  return x;
}

// Measured with llama.cpp's own quantizers on 128 rows of 3072 such weights, another seed. The
// spread between seeds is below 0.5 %.
TEST_P(GgmlBlockType, HasTheErrorOfLlamaQuantizeOnGaussianWeights) {
  const std::map<GgmlType, double> expected = {
      {GgmlType::kQ8_0, .00537}, {GgmlType::kQ4_0, .08598}, {GgmlType::kQ4_1, .07844},
      {GgmlType::kQ5_0, .04273}, {GgmlType::kQ5_1, .03783}, {GgmlType::kQ2_K, .29624},
      {GgmlType::kQ3_K, .15076}, {GgmlType::kQ4_K, .07142}, {GgmlType::kQ5_K, .03611},
      {GgmlType::kQ6_K, .01779}, {GgmlType::kIQ4_NL, .07614}, {GgmlType::kIQ4_XS, .07674}};
  const std::vector<float> x = GaussianWeights();
  const double error = RelativeRmse(x, Dequantize(GetParam(), Quantize(GetParam(), x)));
  EXPECT_NEAR(error, expected.at(GetParam()), 0.01 * expected.at(GetParam()));
}

TEST_P(GgmlSearchedType, LosesLittleWhenEncodedTwice) {
  const std::vector<float> x = GaussianWeights();
  const std::vector<float> once = Dequantize(GetParam(), Quantize(GetParam(), x));
  const std::vector<float> twice = Dequantize(GetParam(), Quantize(GetParam(), once));
  EXPECT_LE(Rmse(once, twice), 0.5 * Rmse(x, once));
}

TEST(GgmlFamilies, ErrLessWithMoreBits) {
  const std::vector<float> x = GaussianWeights();
  const Types families[] = {
      {GgmlType::kQ4_0, GgmlType::kQ5_0, GgmlType::kQ8_0, GgmlType::kF16, GgmlType::kF32},
      {GgmlType::kQ4_1, GgmlType::kQ5_1},
      {GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}};
  for (const Types& family : families) {
    double previous = INFINITY;
    for (const GgmlType type : family) {
      const double error = Rmse(x, Dequantize(type, Quantize(type, x)));
      EXPECT_LT(error, previous) << GetGgmlTypeInfo(type).name;
      previous = error;
    }
  }
}

}  // namespace
}  // namespace phiq
