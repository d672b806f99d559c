// Grids and the methods that search on them, for every encoding that has scales.
#include "kernels/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/encoding_testing.h"
#include "testing/every_target.h"

namespace phiq {
namespace {

using testing::ChosenTarget;
using ::testing::Each;

// Each encoding once, with the method that its peers' files have.
std::vector<Recipe> Encodings() {
  std::vector<Recipe> all;
  for (const GgmlTypeInfo& info : GgmlTypes())
    if (info.block_size > 1) all.push_back({info.type, &kGgml});
  for (const int bits : {4, 8}) {
    all.push_back({PositiveIntegers(bits, 32, ScaleType::kF16), &kNearest});
    all.push_back({PositiveIntegers(bits, 0, ScaleType::kF32), &kNearest});
    for (const bool symmetric : {true, false}) {
      all.push_back({Integers(bits, symmetric, 32), &kMlas});
      all.push_back({Integers(bits, symmetric, 128, ScaleType::kF16), &kMlas});
      all.push_back({SignedIntegers(bits, symmetric, 64, ScaleType::kF16), &kNncf});
      all.push_back({SignedIntegers(bits, symmetric, 0, ScaleType::kF16), &kNncf});
      GroupEncoding positive = Integers(bits, symmetric, 128, ScaleType::kBF16);
      positive.positive_scales = true;
      all.push_back({positive, &kMinMax});
    }
  }
  all.push_back({PositiveIntegers(8, 0, ScaleType::kBF16), &kMinMax});
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16})
    for (const int bits : {2, 3, 4, 5, 6, 8})
      all.push_back({Affine(bits, 64, type), &MlxMethod(MlxRounding::kCpu, type)});
  for (const GroupEncoding& floats : {kMxfp4, kMxfp8, kNvfp4})
    all.push_back({floats, &MlxMethod(MlxRounding::kCpu, FloatType::kF32)});
  return all;
}

// Sum of h * error^2 of a row.
double WeightedError(std::span<const float> h, std::span<const float> x, const EncodedRow& row) {
  const std::vector<float> y = row.Decoded();
  double sum = 0;
  for (std::size_t c = 0; c < x.size(); ++c)
    sum += h[c] * (double{x[c]} - y[c]) * (double{x[c]} - y[c]);
  return sum;
}

// Mean squares of very different sizes, as activations have.
std::vector<float> UnevenSquares(std::size_t n, unsigned seed) {
  std::vector<float> squares = GaussianWeights(n, seed, 1.0F);
  for (float& v : squares) v = std::exp2(3.0F * v);
  return squares;
}

Grid ChooseGrid(const Encoding& encoding, std::span<const float> x, std::span<const float> h) {
  const WeighedBlock block = {x.data(), h.data()};
  Grid grid;
  ChooseGrids(encoding, x.size(), {&block, 1}, {&grid, 1});
  return grid;
}

class Grids : public ::testing::TestWithParam<Recipe> {
 protected:
  const Encoding& encoding_ = GetParam().encoding;
  const Method& reference_ = *GetParam().method;
  std::mt19937 rng_{21};
};

// What Nearest says a code is worth is what the stored bytes decode to, bit for bit.
TEST_P(Grids, SayWhatCodesDecodeTo) {
  constexpr std::size_t kN = 512;
  for (int row = 0; row < 20; ++row) {
    const std::vector<float> x = MixedRow(rng_, kN), h = UnevenSquares(kN, 3);
    const std::size_t block_size = BlockSize(encoding_, kN);
    std::vector<BlockScales> blocks;
    std::vector<std::uint8_t> codes;
    std::vector<float> values;
    for (std::size_t b = 0; b < kN; b += block_size) {
      const Grid grid = ChooseGrid(encoding_, std::span(x).subspan(b, block_size),
                                   std::span(h).subspan(b, block_size));
      blocks.push_back(grid);
      for (std::size_t c = 0; c < block_size; ++c) {
        const Coded coded = Nearest(grid, c, x[b + c]);
        codes.push_back(coded.code);
        values.push_back(coded.value);
      }
    }
    std::vector<Bytes> arrays;
    for (std::size_t a = 0; a < ArrayCount(encoding_); ++a)
      arrays.emplace_back(ArrayRowBytes(encoding_, a, kN));
    PackRow(encoding_, blocks, codes, 0,
            std::vector<std::span<std::byte>>(arrays.begin(), arrays.end()));
    std::vector<float> decoded(kN);
    RowCodec().Decode(
        encoding_, std::vector<std::span<const std::byte>>(arrays.begin(), arrays.end()), decoded);
    if (std::ranges::any_of(decoded, [](float v) { return !std::isfinite(v); })) continue;
    ASSERT_EQ(values, decoded) << "row " << row;
  }
}

// No other code is nearer.
TEST_P(Grids, CodeNearest) {
  const std::vector<float> x = GaussianWeights(512, 22), h(512, 1.0F);
  const std::size_t block_size = std::min<std::size_t>(BlockSize(encoding_, 512), 256);
  const Grid grid =
      ChooseGrid(encoding_, std::span(x).first(block_size), std::span(h).first(block_size));
  // Every value that a code of the first run can have, from weights far and wide.
  std::vector<float> values;
  for (int i = -3000; i <= 3000; ++i)
    values.push_back(Nearest(grid, 0, static_cast<float>(i) * 5e-5F).value);
  for (std::size_t c = 0; c < std::min(block_size, grid.run_size); ++c) {
    double least = std::numeric_limits<double>::infinity();
    for (const float value : values) least = std::min(least, std::abs(double{value} - x[c]));
    // Where two are as near as floats can tell.
    EXPECT_LE(std::abs(double{Nearest(grid, c, x[c]).value} - x[c]), least * (1 + 1e-5) + 1e-9);
  }
}

// Blocks beside it, and the instruction set, do not change a grid.
TEST_P(Grids, AreChosenBlockByBlock) {
  const std::size_t size = std::min<std::size_t>(BlockSize(encoding_, 512), 512);
  constexpr std::size_t kBlocks = kBlocksAtOnce + 3;
  std::vector<std::vector<float>> x, h;
  std::vector<WeighedBlock> blocks;
  for (unsigned b = 0; b < kBlocks; ++b) {
    x.push_back(MixedRow(rng_, size));
    h.push_back(UnevenSquares(size, b));
    blocks.push_back({x.back().data(), h.back().data()});
  }
  const auto same = [&](const Grid& a, const Grid& b) {
    return std::ranges::equal(a.scales, b.scales) && std::ranges::equal(a.offsets, b.offsets) &&
           a.zero == b.zero && a.scale == b.scale && a.offset == b.offset &&
           a.scale_integers == b.scale_integers && a.offset_integers == b.offset_integers;
  };
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    std::vector<Grid> together(kBlocks);
    {
      const ChosenTarget chosen(target);
      ChooseGrids(encoding_, size, blocks, together);
    }
    for (std::size_t b = 0; b < kBlocks; ++b) {
      const Grid alone = ChooseGrid(encoding_, x[b], h[b]);
      if (!std::isfinite(alone.scale) || !std::isfinite(alone.offset)) continue;
      EXPECT_TRUE(same(together[b], alone)) << hwy::TargetName(target) << " " << b;
    }
  }
}

TEST_P(Grids, GiveLessErrorThanTheReference) {
  constexpr std::size_t kN = 1 << 14;
  const std::vector<float> x = GaussianWeights(kN, 23, 0.1F), ones(kN, 1.0F);
  const double reference = WeightedError(ones, x, EncodedRow(encoding_, reference_, x));
  const double searched = WeightedError(ones, x, EncodedRow(encoding_, kSearch, x));
  if (encoding_ == Encoding(kMxfp8)) {
    EXPECT_LE(searched,
              reference);  // half as large a scale clips, and is no finer where it does not
  } else {
    EXPECT_LT(searched, reference);
  }
  EXPECT_LE(std::sqrt(searched), BoundOf(encoding_, kN).relative_rmse * 0.1 * std::sqrt(kN));
}

TEST_P(Grids, FollowTheImportance) {
  constexpr std::size_t kN = 1 << 14;
  const std::vector<float> x = GaussianWeights(kN, 24, 0.1F), h = UnevenSquares(kN, 25);
  const double reference = WeightedError(h, x, EncodedRow(encoding_, reference_, x));
  const double searched = WeightedError(h, x, EncodedRow(encoding_, kSearch, x));
  const double weighted = WeightedError(h, x, EncodedRow(encoding_, kImatrix, x, {h}));
  if (encoding_ == Encoding(GgmlType::kQ8_0)) {
    EXPECT_EQ(weighted, reference);  // llama-quantize does not look at the matrix
    return;
  }
  if (encoding_ == Encoding(kMxfp8)) {
    EXPECT_LE(weighted, reference);
    return;
  }
  EXPECT_LT(weighted, reference);
  // llama-quantize's search also weights by the weights' sizes, and looks less far.
  if (std::holds_alternative<GroupEncoding>(encoding_)) {
    EXPECT_LT(weighted, searched);
  }
}

TEST_P(Grids, KeepZeros) {
  const std::vector<float> zeros(512), h = UnevenSquares(512, 26);
  EXPECT_THAT(EncodedRow(encoding_, kSearch, zeros).Decoded(), Each(0.0F));
  EXPECT_THAT(EncodedRow(encoding_, kImatrix, zeros, {h}).Decoded(), Each(0.0F));
}

TEST_P(Grids, TakeWeightsOfAllMagnitudes) {
  for (const float size :
       {1e-45F, 1e-39F, 1e-30F, 1e-15F, 6e-8F, 1e-3F, 6e4F, 1e9F, 1e19F, 9e37F}) {
    std::vector<float> x(512);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    for (float& v : x) v = size * uniform(rng_);
    const EncodedRow row(encoding_, kSearch, x);
    const bool is_finite = !FindNonFinite(encoding_, row.Spans(), x.size());
    const std::vector<float> y = row.Decoded();
    if (!is_finite) {
      EXPECT_GE(size, 1e3F);
      continue;
    }
    // Halves below 2^-14 are multiples of 2^-24.
    const bool has_half_scales =
        HasHalfRange(encoding_) || std::holds_alternative<GgmlType>(encoding_);
    // Nothing is silently lost, but what the smallest scales cannot hold.
    const double lost = (size <= 1e-3F ? size : 0.5 * size) + (has_half_scales ? 0x1p-24 : 0);
    for (std::size_t c = 0; c < x.size(); ++c)
      ASSERT_LE(std::abs(double{x[c]} - y[c]), lost * (1 + 1e-3) + 1e-44) << size;
  }
}

// Squares of such weights are below every float.
TEST_P(Grids, ServeTheLeastWeightsNoWorseThanTheReference) {
  constexpr std::size_t kN = 1 << 13;
  const std::vector<float> ones(kN, 1.0F), h = UnevenSquares(kN, 29);
  for (const float size : {1e-13F, 1e-20F, 1e-30F}) {
    const std::vector<float> x = GaussianWeights(kN, 30, size);
    const EncodedRow reference(encoding_, reference_, x);
    EXPECT_LE(WeightedError(ones, x, EncodedRow(encoding_, kSearch, x)),
              WeightedError(ones, x, reference))
        << size;
    EXPECT_LE(WeightedError(h, x, EncodedRow(encoding_, kImatrix, x, {h})),
              WeightedError(h, x, reference))
        << size;
  }
}

// A power of two rounds nothing, where scales have the exponents of floats.
TEST_P(Grids, GiveTheLeastWeightsTheCodesOfOthers) {
  if (HasHalfRange(encoding_) || std::holds_alternative<GgmlType>(encoding_) ||
      encoding_ == Encoding(kNvfp4))
    GTEST_SKIP() << "its scales have too few exponents for such weights";
  const std::vector<float> x = GaussianWeights(512, 31, 0.1F);
  const std::vector<float> y = EncodedRow(encoding_, kSearch, x).Decoded();
  for (const float size : {0x1p-43F, 0x1p-66F, 0x1p-100F}) {
    std::vector<float> tiny = x, expected = y;
    for (float& v : tiny) v *= size;
    for (float& v : expected) v *= size;
    EXPECT_EQ(EncodedRow(encoding_, kSearch, tiny).Decoded(), expected) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(, Grids, ::testing::ValuesIn(Encodings()), [](const auto& recipe) {
  if (const GgmlType* type = std::get_if<GgmlType>(&recipe.param.encoding))
    return std::string(GetGgmlTypeInfo(*type).name);
  const bool is_signed = IsSigned(std::get<GroupEncoding>(recipe.param.encoding).code);
  return TestName(recipe.param) + (is_signed ? "Signed" : "");
});

// What kernels take that refuse other scales: above 0, and 8-bit codes that have an opposite.
TEST(PositiveScales, AreAboveZeroWhateverTheWeights) {
  std::mt19937 rng(28);
  std::vector<Recipe> recipes;
  for (const GroupEncoding& groups :
       {PositiveIntegers(4, 32, ScaleType::kF16), PositiveIntegers(4, 32, ScaleType::kF32),
        PositiveIntegers(8, 0, ScaleType::kF32)}) {
    recipes.push_back({groups, &kNearest});
    recipes.push_back({groups, &kSearch});
  }
  for (const ScaleType scale : {ScaleType::kF16, ScaleType::kBF16}) {
    for (const bool symmetric : {true, false}) {
      GroupEncoding groups = Integers(4, symmetric, 32, scale);
      groups.positive_scales = true;
      recipes.push_back({groups, &kSearch});
    }
    recipes.push_back({PositiveIntegers(8, 0, scale), &kSearch});
  }
  for (const Recipe& recipe : recipes) {
    const auto& groups = std::get<GroupEncoding>(recipe.encoding);
    for (const float size : {0.0F, 1e-45F, 1e-30F, 1e-15F, 2e-8F, 1e-7F, 1e-3F, 1.0F, 100.0F}) {
      for (int row = 0; row < 20; ++row) {
        std::vector<float> x = MixedRow(rng, 64);
        for (float& v : x) v *= size;
        const Groups made = GroupsOf(groups, *recipe.method, x);
        EXPECT_THAT(made.scales, Each(::testing::Ge(std::numeric_limits<float>::min()))) << size;
        if (size == 0.0F) {
          EXPECT_THAT(made.scales, Each(1.0F));
          EXPECT_THAT(made.decoded, Each(0.0F));
        }
        if (groups.code == Code::kI8) {
          EXPECT_THAT(made.codes, Each(::testing::Ge(1)));
        }
      }
    }
  }
}

// 31 of 32 weights lie on the grid of scale 1, and one between two points of it; the extreme says
// 7.5 / 7. With weights 1 the search finds the grid.
TEST(SearchMethod, FindsTheGridThatWeightsLieOn) {
  std::vector<float> x(32);
  for (std::size_t c = 0; c < 32; ++c) x[c] = static_cast<float>(c % 14) - 7.0F;
  x[5] = 7.4F;
  const Groups groups = GroupsOf(Integers(4, kSymmetric, 32), kSearch, x);
  EXPECT_NEAR(std::abs(groups.scales[0]), 1.0F, 0.01F);
  EXPECT_NEAR(groups.decoded[0], -7.0F, 0.1F);
}

// Column 0 counts all, the others next to nothing: its weight is kept exactly, whatever the others
// are.
TEST(ImatrixMethod, KeepsTheWeightThatCounts) {
  std::vector<float> x = GaussianWeights(32, 27), h(32, 1e-3F);
  h[0] = 1e4F;
  const std::vector<float> y = EncodedRow(Integers(4, kAsymmetric, 32), kImatrix, x, {h}).Decoded();
  EXPECT_NEAR(y[0], x[0], 1e-3F * std::abs(x[0]));
}

TEST(Methods, OfSearchesFillAllButFloats) {
  for (const Method* method : {&kSearch, &kImatrix}) {
    EXPECT_FALSE(method->fills(GgmlType::kF32));
    EXPECT_FALSE(method->fills(GgmlType::kBF16));
    for (const Recipe& recipe : Encodings()) EXPECT_TRUE(method->fills(recipe.encoding));
  }
  EXPECT_EQ(kSearch.needs, Needs::kNothing);
  EXPECT_EQ(kImatrix.needs, Needs::kSquares);
}

}  // namespace
}  // namespace phiq
