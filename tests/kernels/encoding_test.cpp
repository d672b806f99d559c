// Names, sizes and bounds of encodings.
#include "phiq/encoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/endian.h"
#include "base/half.h"
#include "kernels/encoding_testing.h"
#include "kernels/ggml_testing.h"

namespace phiq {
namespace {

using testing::ElementsAre;
using testing::Eq;

std::vector<int> Numbers(std::span<const std::byte> bytes) {
  std::vector<int> integers;
  for (const std::byte b : bytes) integers.push_back(std::to_integer<int>(b));
  return integers;
}

const Method& Mlx(FloatType weights) { return MlxMethod(MlxRounding::kCpu, weights); }

TEST(EncodingName, SaysWhatADecoderMustKnow) {
  EXPECT_EQ(EncodingName(GgmlType::kQ4_K), "Q4_K");
  EXPECT_EQ(EncodingName(GgmlType::kF16), "F16");
  EXPECT_EQ(EncodingName(Integers(4, kSymmetric, 32)), "int4 g32");
  EXPECT_EQ(EncodingName(Integers(8, kAsymmetric, 128)), "int8 g128 asym");
  EXPECT_EQ(EncodingName(SignedIntegers(8, kSymmetric, 0)), "int8 row");
  EXPECT_EQ(EncodingName(Affine(4, 64, FloatType::kBF16)), "affine4 g64");
  EXPECT_EQ(EncodingName(Affine(6, 128, FloatType::kF32)), "affine6 g128");
  EXPECT_EQ(EncodingName(kMxfp4), "mxfp4");
  EXPECT_EQ(EncodingName(kMxfp8), "mxfp8");
  EXPECT_EQ(EncodingName(kNvfp4), "nvfp4");
}

TEST(ArrayRowBytes, OfBlocksIsOneArray) {
  EXPECT_EQ(ArrayCount(GgmlType::kQ4_K), 1U);
  EXPECT_EQ(ArrayRowBytes(GgmlType::kQ4_K, 0, 512), 288U);
  EXPECT_EQ(EncodedRowBytes(GgmlType::kF16, 3), 6U);
}

TEST(ArrayRowBytes, CountsWholeGroups) {
  struct Row {
    GroupEncoding groups;
    std::size_t n;
    std::vector<std::size_t> bytes;
  };
  for (const Row& row :
       std::vector<Row>{{Integers(4, kSymmetric, 32, ScaleType::kF32), 64, {32, 8}},
                        {Integers(4, kSymmetric, 32, ScaleType::kF16), 80, {48, 6}},
                        {Integers(8, kAsymmetric, 32, ScaleType::kF32), 80, {96, 12, 3}},
                        {Integers(4, kAsymmetric, 32, ScaleType::kF16), 80, {48, 6, 2}},
                        {Integers(8, kSymmetric, 0, ScaleType::kF32), 77, {77, 4}},
                        {Integers(4, kAsymmetric, 0, ScaleType::kF32), 77, {39, 4, 1}}}) {
    const Encoding encoding = row.groups;
    ASSERT_EQ(ArrayCount(encoding), row.bytes.size());
    std::size_t total_bytes = 0;
    for (std::size_t i = 0; i < row.bytes.size(); ++i) {
      EXPECT_EQ(ArrayRowBytes(encoding, i, row.n), row.bytes[i]) << EncodingName(encoding);
      total_bytes += row.bytes[i];
    }
    EXPECT_EQ(EncodedRowBytes(encoding, row.n), total_bytes);
  }
}

TEST(ArrayRowBytes, CountsMlxGroups) {
  struct Row {
    GroupEncoding encoding;
    std::vector<std::size_t> bytes;
  };
  for (const Row& row : std::vector<Row>{{Affine(4, 64, FloatType::kBF16), {128, 8, 8}},
                                         {Affine(3, 32, FloatType::kF16), {96, 16, 16}},
                                         {Affine(5, 128, FloatType::kF32), {160, 8, 8}},
                                         {kMxfp4, {128, 8}},
                                         {kMxfp8, {256, 8}},
                                         {kNvfp4, {128, 16}}}) {
    ASSERT_EQ(ArrayCount(row.encoding), row.bytes.size()) << EncodingName(row.encoding);
    for (std::size_t i = 0; i < row.bytes.size(); ++i)
      EXPECT_EQ(ArrayRowBytes(row.encoding, i, 256), row.bytes[i]) << EncodingName(row.encoding);
  }
}

TEST(HasHalfRange, IsTrueOfHalves) {
  EXPECT_TRUE(HasHalfRange(GgmlType::kF16));
  EXPECT_FALSE(HasHalfRange(GgmlType::kBF16));
  EXPECT_FALSE(HasHalfRange(GgmlType::kQ8_0));
  EXPECT_TRUE(HasHalfRange(Integers(4, kSymmetric, 32, ScaleType::kF16)));
  EXPECT_FALSE(HasHalfRange(Integers(4, kSymmetric, 32, ScaleType::kF32)));
  EXPECT_TRUE(HasHalfRange(Affine(4, 64, FloatType::kF16)));
  EXPECT_FALSE(HasHalfRange(kMxfp8));
  EXPECT_FALSE(HasHalfRange(Affine(4, 64, FloatType::kBF16)));
}

// Extreme -4 of 8 steps: scale 0.5. Its opposite is cut to code 15, and 0.25 is half a step.
TEST(RowCodec, PacksSymmetricInt4AsMatMulNBitsReadsIt) {
  std::vector<float> x(18, 0.0F);
  x[0] = -4.0F;
  x[1] = 4.0F;
  x[2] = 0.25F;
  x[3] = -0.25F;
  x[16] = 8.0F;  // the second group: scale -1, of which 14 weights are missing
  x[17] = -2.0F;
  const EncodedRow row(Integers(4, kSymmetric, 16), kMlas, x);
  ASSERT_EQ(row.arrays.size(), 2U);
  EXPECT_THAT(Numbers(row.arrays[0]), ElementsAre(0xF0, 0x89, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88,
                                                  0xA0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_EQ(LoadLe<float>(row.arrays[1]), 0.5F);
  EXPECT_EQ(LoadLe<float>(row.arrays[1], 4), -1.0F);
  std::vector<float> expected = x;
  expected[1] = 3.5F;  // cut
  expected[2] = 0.5F;  // 8.5 rounds away from zero
  expected[3] = 0.0F;  // 7.5 too
  EXPECT_EQ(row.Decoded(), expected);
}

// -1 ... 2.75 in steps of 0.25 has zero point 4; 0 ... 15 has 0; an odd third nibble leaves an 8.
TEST(RowCodec, PacksZeroPointsWithAnEightInTheUnusedNibble) {
  std::vector<float> x(48, 0.0F);
  x[0] = -1.0F;
  x[1] = 2.75F;
  x[16] = 15.0F;
  x[32] = -15.0F;
  const EncodedRow row(Integers(4, kAsymmetric, 16, ScaleType::kF16), kMlas, x);
  EXPECT_THAT(Numbers(row.arrays[2]), ElementsAre(0x04, 0x8F));
  EXPECT_EQ(LoadLe<std::uint16_t>(row.arrays[1]), FloatToFp16(0.25F));
  EXPECT_THAT(Numbers(std::span(row.arrays[0]).first(9)),
              ElementsAre(0xF0, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x0F));
  EXPECT_EQ(row.Decoded(), x);
}

// GatherBlockQuantized takes INT4 codes for symmetric blocks.
TEST(RowCodec, FlipsTheTopBitOfSignedCodes) {
  std::vector<float> x(16, 0.0F);
  x[0] = -8.0F;
  x[1] = 7.0F;
  x[2] = 1.0F;
  x[3] = -1.0F;
  const EncodedRow row(SignedIntegers(4, kSymmetric, 16), kGather, x);
  EXPECT_THAT(Numbers(row.arrays[0]), ElementsAre(0x78, 0xF1, 0, 0, 0, 0, 0, 0));
  EXPECT_EQ(row.Decoded(), x);
}

TEST(RowCodec, FlipsTheTopBitOfSignedZeroPoints) {
  std::vector<float> x(48, 0.0F);
  x[0] = -1.0F;
  x[1] = 2.75F;
  const EncodedRow row(SignedIntegers(4, kAsymmetric, 16), kMlas, x);
  EXPECT_THAT(Numbers(row.arrays[2]), ElementsAre(0x8C, 0x08));  // 4, 0, 0 and an 8, less 8 each
  EXPECT_EQ(row.Decoded(), x);
}

// MatMulInteger's weights: one scale a row, two's complement, -128 unused.
TEST(RowCodec, StoresSignedInt8Rows) {
  const std::vector<float> x = {-63.5F, 63.5F, 0.0F, 0.75F, 1.25F};
  const EncodedRow row(SignedIntegers(8, kSymmetric, 0), kNearest, x);
  EXPECT_THAT(Numbers(row.arrays[0]), ElementsAre(0x81, 0x7F, 0x00, 0x02, 0x02));
  EXPECT_EQ(LoadLe<float>(row.arrays[1]), 0.5F);
  EXPECT_THAT(row.Decoded(), ElementsAre(-63.5F, 63.5F, 0.0F, 1.0F, 1.0F));
}

// Golden vectors of MatMulNBits and GatherBlockQuantized, read by onnxruntime: q[k] = k mod 16 and
// scale 0.5 give 0.5 * (1 - 8) for the second weight; q = k mod 256 with 8 bits 0.5 * (1 - 128).
TEST(RowCodec, DecodesAsOnnxruntimeDoes) {
  Bytes codes(16);
  for (std::size_t i = 0; i < 16; ++i)
    codes[i] = static_cast<std::byte>((2 * i % 16) | ((2 * i + 1) % 16) << 4);
  Bytes scale(4);
  StoreLe(0.5F, std::span(scale));
  std::vector<float> x(32);
  const std::vector<std::span<const std::byte>> arrays = {codes, scale};
  EXPECT_EQ(codes[0], std::byte{0x10});
  RowCodec().Decode(Integers(4, kSymmetric, 32), arrays, x);
  EXPECT_EQ(x[1] + 0.5F * x[2], -5.0F);
  Bytes wide(32);
  for (std::size_t i = 0; i < 32; ++i) wide[i] = static_cast<std::byte>(i);
  const std::vector<std::span<const std::byte>> wide_arrays = {wide, scale};
  RowCodec().Decode(Integers(8, kSymmetric, 32), wide_arrays, x);
  EXPECT_EQ(x[1] + 0.5F * x[2], -95.0F);
  StoreLe(2.5F, std::span(scale));
  codes[0] = std::byte{0x03};
  RowCodec().Decode(Integers(4, kSymmetric, 32), arrays, x);
  EXPECT_EQ(x[0], -12.5F);
  RowCodec().Decode(SignedIntegers(4, kSymmetric, 32), arrays, x);
  EXPECT_EQ(x[0], 7.5F);
}

// 31 steps of 0.5 down from 15; 5-bit codes 31, 1, 30 and 2 are bits 11111 00001 11110 00010 read
// from the right.
TEST(RowCodec, PacksMlxGroupsAsAStreamOfBits) {
  std::vector<float> x(32, 15.0F);
  x[0] = -0.5F;
  x[1] = 14.5F;
  x[2] = 0.0F;
  x[3] = 14.0F;
  const EncodedRow row(Affine(5, 32, FloatType::kF16), Mlx(FloatType::kF16), x);
  ASSERT_EQ(row.arrays.size(), 3U);
  // 00010 11110 00001 11111 is 0001'0111'1000'0011'1111 in twenty bits.
  EXPECT_THAT(Numbers(std::span(row.arrays[0]).first(4)), ElementsAre(0x3F, 0x78, 0x01, 0x00));
  EXPECT_EQ(row.arrays[0].size(), 20U);
  EXPECT_EQ(LoadLe<std::uint16_t>(row.arrays[1]), FloatToFp16(-0.5F));
  EXPECT_EQ(LoadLe<std::uint16_t>(row.arrays[2]), FloatToFp16(15.0F));
  EXPECT_EQ(row.Decoded(), x);
}

TEST(RowCodec, StoresAByteForTheScaleOfSmallFloats) {
  std::vector<float> x(32, 0.0F);
  x[0] = -12.0F;
  x[1] = 1.0F;
  x[2] = 8.0F;
  const EncodedRow mxfp4(kMxfp4, Mlx(FloatType::kBF16), x);
  ASSERT_EQ(mxfp4.arrays.size(), 2U);
  EXPECT_THAT(Numbers(mxfp4.arrays[1]), ElementsAre(128));  // 2
  EXPECT_THAT(Numbers(std::span(mxfp4.arrays[0]).first(2)), ElementsAre(0x1F, 0x06));
  EXPECT_EQ(mxfp4.Decoded(), x);
  const EncodedRow nvfp4(kNvfp4, Mlx(FloatType::kBF16), x);
  EXPECT_THAT(Numbers(nvfp4.arrays[1]), ElementsAre(0x40, 0x00));  // 2 and 0
  EXPECT_EQ(nvfp4.arrays[0], mxfp4.arrays[0]);
  EXPECT_EQ(nvfp4.Decoded(), x);
  x[0] = -448.0F;
  const EncodedRow mxfp8(kMxfp8, Mlx(FloatType::kBF16), x);
  EXPECT_THAT(Numbers(mxfp8.arrays[1]), ElementsAre(127));  // 1
  EXPECT_THAT(Numbers(std::span(mxfp8.arrays[0]).first(4)), ElementsAre(0xFE, 0x38, 0x50, 0));
  EXPECT_EQ(mxfp8.Decoded(), x);
}

// Two roundings: 3 * (1 + 2^-23) is a tie and becomes 3 + 2^-21, which -3 then leaves.
TEST(RowCodec, RoundsMlxProductsBeforeTheBias) {
  Bytes codes(8);
  codes[0] = std::byte{3};
  Bytes scale(4);
  Bytes bias(4);
  StoreLe(1.0F + 0x1p-23F, std::span(scale));
  StoreLe(-3.0F, std::span(bias));
  std::vector<float> x(32);
  RowCodec().Decode(Affine(2, 32, FloatType::kF32),
                    std::vector<std::span<const std::byte>>{codes, scale, bias}, x);
  EXPECT_EQ(x[0], 0x1p-21F);
  EXPECT_EQ(x[1], -3.0F);
}

TEST(RowCodec, DecodesAnyBytes) {
  std::mt19937 rng(9);
  std::vector<Encoding> encodings;
  for (const Recipe& recipe : IntegerRecipes()) encodings.push_back(recipe.encoding);
  for (const Recipe& recipe : MlxRecipes()) encodings.push_back(recipe.encoding);
  for (const Encoding& encoding : encodings) {
    const std::size_t n = std::holds_alternative<GroupEncoding>(encoding) ? 77 : 256;
    std::vector<Bytes> stored;
    std::vector<std::span<const std::byte>> arrays;
    for (std::size_t i = 0; i < ArrayCount(encoding); ++i) {
      stored.emplace_back(ArrayRowBytes(encoding, i, n));
      for (std::byte& b : stored.back()) b = static_cast<std::byte>(rng());
    }
    for (const Bytes& array : stored) arrays.emplace_back(array);
    std::vector<float> x(n);
    RowCodec().Decode(encoding, arrays, x);
  }
}

TEST(RowCodec, ServesOneEncodingAfterAnother) {
  RowCodec codec;
  const std::vector<float> x = GaussianWeights(512, 10);
  for (int pass = 0; pass < 2; ++pass) {
    for (const Recipe& recipe :
         {Recipe{Integers(4, kAsymmetric, 256), &kMlas}, Recipe{GgmlType::kQ4_K},
          Recipe{Affine(3, 128, FloatType::kBF16), &Mlx(FloatType::kBF16)},
          Recipe{kNvfp4, &Mlx(FloatType::kBF16)},
          Recipe{SignedIntegers(8, kSymmetric, 16, ScaleType::kF16), &kGather}}) {
      const EncodedRow row(recipe, x);
      std::vector<float> y(x.size(), -1.0F);
      codec.Decode(recipe.encoding, row.Spans(), y);
      EXPECT_EQ(y, row.Decoded()) << TestName(recipe);
    }
  }
}

// Whole chunks of rows at once, over whatever the arrays held before; from halves as from the
// floats that they are.
TEST(Methods, QuantizeRowsAsTheyDoOneByOne) {
  constexpr std::size_t kRows = 3, kColumns = 512;
  std::vector<float> x = GaussianWeights(kRows * kColumns, 20);
  Bytes halves(x.size() * FloatBytes(FloatType::kBF16));
  for (std::size_t i = 0; i < x.size(); ++i) {
    StoreFloat(FloatType::kBF16, x[i], halves, i);
    x[i] = LoadFloat(FloatType::kBF16, halves, i);
  }
  std::vector<Recipe> recipes = IntegerRecipes();
  for (const Recipe& recipe : MlxRecipes()) recipes.push_back(recipe);
  recipes.push_back({Integers(4, kAsymmetric, 32), &kSearch});
  recipes.push_back({GgmlType::kQ4_K, &kSearch});
  for (const GgmlTypeInfo& info : GgmlTypes()) recipes.push_back({info.type});
  for (const Recipe& recipe : recipes) {
    const std::string name = EncodingName(recipe.encoding) + std::string(recipe.method->name);
    std::vector<Bytes> stored;
    for (std::size_t a = 0; a < ArrayCount(recipe.encoding); ++a)
      stored.emplace_back(kRows * ArrayRowBytes(recipe.encoding, a, kColumns), std::byte{0xEE});
    recipe.method->quantize(recipe.encoding, {FloatType::kBF16, halves}, kColumns, {},
                            std::vector<std::span<std::byte>>(stored.begin(), stored.end()));
    for (std::size_t r = 0; r < kRows; ++r) {
      const EncodedRow alone(recipe, std::span(x).subspan(r * kColumns, kColumns));
      for (std::size_t a = 0; a < stored.size(); ++a) {
        const std::size_t row_bytes = alone.arrays[a].size();
        EXPECT_TRUE(std::ranges::equal(std::span(stored[a]).subspan(r * row_bytes, row_bytes),
                                       alone.arrays[a]))
            << name << ", row " << r << ", array " << a;
      }
    }
  }
}

TEST(Methods, SayWhatTheyCannotFill) {
  const Encoding blocks = Integers(4, kSymmetric, 32, ScaleType::kF16);
  const Encoding rows = Integers(8, kAsymmetric, 0, ScaleType::kF16);
  const Encoding bfloats = Integers(4, kAsymmetric, 32, ScaleType::kBF16);
  const Encoding mlx = Affine(4, 64, FloatType::kBF16);
  for (const Method* method : {&kNearest, &kMlas, &kRtn, &kKQuant, &kGather, &kNncf}) {
    EXPECT_FALSE(method->fills(GgmlType::kQ4_0)) << method->name;
    EXPECT_FALSE(method->fills(mlx)) << method->name;
    EXPECT_FALSE(method->fills(bfloats)) << method->name;
    EXPECT_EQ(method->fills(rows), method == &kNncf) << method->name;
    EXPECT_EQ(method->fills(blocks), method != &kNearest && method != &kKQuant) << method->name;
  }
  EXPECT_TRUE(kMinMax.fills(blocks));
  EXPECT_TRUE(kMinMax.fills(rows));
  EXPECT_TRUE(kMinMax.fills(bfloats));
  EXPECT_FALSE(kMinMax.fills(mlx));
  EXPECT_FALSE(kMinMax.fills(kMxfp4));
  EXPECT_TRUE(kKQuant.fills(Integers(4, kAsymmetric, 32, ScaleType::kF16)));
  EXPECT_TRUE(kNearest.fills(SignedIntegers(8, kSymmetric, 0)));
  EXPECT_FALSE(kGgml.fills(mlx));
  EXPECT_FALSE(Mlx(FloatType::kF16).fills(blocks));
  EXPECT_TRUE(Mlx(FloatType::kBF16).fills(mlx));
  EXPECT_FALSE(Mlx(FloatType::kF16).fills(mlx));
  EXPECT_TRUE(Mlx(FloatType::kF16).fills(kNvfp4));
}

std::optional<std::size_t> NonFiniteOf(const EncodedRow& row) {
  return FindNonFinite(row.encoding, row.Spans(), row.n);
}

TEST(FindNonFinite, GivesTheFirstWeightOfTheFirstBadGroup) {
  EncodedRow row(Integers(4, kSymmetric, 16), kMlas, GaussianWeights(64, 11));
  EXPECT_THAT(NonFiniteOf(row), Eq(std::nullopt));
  StoreLe(std::numeric_limits<float>::quiet_NaN(), std::span(row.arrays[1]), 12);
  EXPECT_THAT(NonFiniteOf(row), Eq(48U));
  StoreLe(-std::numeric_limits<float>::infinity(), std::span(row.arrays[1]), 4);
  EXPECT_THAT(NonFiniteOf(row), Eq(16U));
}

TEST(FindNonFinite, SeesWeightsTooLargeForHalves) {
  for (const Method* method : {&kMlas, &kRtn, &kKQuant, &kGather}) {
    for (const bool symmetric : {true, false}) {
      const Encoding encoding = Integers(4, symmetric, 32, ScaleType::kF16);
      if (!method->fills(encoding)) continue;
      std::vector<float> x = GaussianWeights(64, 12);
      x[40] = 65520.0F;
      EXPECT_THAT(NonFiniteOf({encoding, *method, x}), Eq(32U)) << method->name;
    }
  }
}

TEST(FindNonFinite, GivesTheFirstWeightOfMlxGroups) {
  for (const std::size_t array : {1, 2}) {
    EncodedRow affine(Affine(4, 32, FloatType::kBF16), Mlx(FloatType::kBF16),
                      GaussianWeights(128, 16));
    EXPECT_THAT(NonFiniteOf(affine), Eq(std::nullopt));
    StoreLe(std::uint16_t{0x7FC0}, std::span(affine.arrays[array]), 6);
    EXPECT_THAT(NonFiniteOf(affine), Eq(96U));
    StoreLe(std::uint16_t{0xFF80}, std::span(affine.arrays[array]), 2);
    EXPECT_THAT(NonFiniteOf(affine), Eq(32U));
  }
  EncodedRow mxfp8(kMxfp8, Mlx(FloatType::kBF16), GaussianWeights(128, 17));
  mxfp8.arrays[1][2] = std::byte{254};
  EXPECT_THAT(NonFiniteOf(mxfp8), Eq(std::nullopt));
  mxfp8.arrays[1][2] = std::byte{255};
  EXPECT_THAT(NonFiniteOf(mxfp8), Eq(64U));
  for (const int nan : {0x7F, 0xFF}) {
    EncodedRow nvfp4(kNvfp4, Mlx(FloatType::kBF16), GaussianWeights(128, 18));
    nvfp4.arrays[1][5] = std::byte{0x7E};
    EXPECT_THAT(NonFiniteOf(nvfp4), Eq(std::nullopt));
    nvfp4.arrays[1][5] = static_cast<std::byte>(nan);
    EXPECT_THAT(NonFiniteOf(nvfp4), Eq(80U));
  }
}

TEST(FindNonFinite, SeesWeightsTooLargeForMlxTypes) {
  for (const Recipe& recipe : MlxRecipes()) {
    const GroupEncoding& groups = std::get<GroupEncoding>(recipe.encoding);
    const FloatType type = recipe.method->weights;
    std::vector<float> x = GaussianWeights(256, 19);
    x[140] = type == FloatType::kF16 ? 65520.0F : 3.4e38F;
    x[141] = -x[140];  // float32: their distance is Inf
    const bool fits = type == FloatType::kF32 && (groups == kMxfp4 || groups == kMxfp8);
    const std::optional<std::size_t> found = NonFiniteOf({recipe, x});
    if (fits) {
      EXPECT_EQ(found, std::nullopt) << TestName(recipe);
    } else {
      EXPECT_EQ(found, 140 / groups.group_size * groups.group_size) << TestName(recipe);
    }
  }
}

TEST(FindNonFinite, GivesWeightsOfBlocksToo) {
  EncodedRow row(GgmlType::kQ8_0, kGgml, GaussianWeights(96, 13));
  EXPECT_THAT(NonFiniteOf(row), Eq(std::nullopt));
  StoreLe(std::uint16_t{0x7C00}, std::span(row.arrays[0]), 34);
  EXPECT_THAT(NonFiniteOf(row), Eq(32U));
  EncodedRow floats(GgmlType::kF32, kGgml, GaussianWeights(5, 14));
  StoreLe(std::numeric_limits<float>::infinity(), std::span(floats.arrays[0]), 12);
  EXPECT_THAT(NonFiniteOf(floats), Eq(3U));
}

class GgmlBounds : public testing::TestWithParam<GgmlType> {};

TEST_P(GgmlBounds, HoldForGaussianWeights) {
  const std::vector<float> x = GaussianWeights(256 * 64, 15);
  const ErrorBound bound = BoundOf(GetParam(), x.size());
  const std::vector<float> y = EncodedRow(GetParam(), kGgml, x).Decoded();
  EXPECT_LE(RelativeRmse(x, y), bound.relative_rmse);
  EXPECT_LE(WorstBlock(bound, x, y), bound.block_error);
  EXPECT_EQ(bound.block_size, GetGgmlTypeInfo(GetParam()).block_size);
}

std::vector<GgmlType> AllTypes() {
  std::vector<GgmlType> types;
  for (const GgmlTypeInfo& info : GgmlTypes()) types.push_back(info.type);
  return types;
}

INSTANTIATE_TEST_SUITE_P(, GgmlBounds, testing::ValuesIn(AllTypes()),
                         [](const auto& type) { return TestName(type.param); });

}  // namespace
}  // namespace phiq
