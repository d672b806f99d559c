// The table of types, the three float types, and what happens at the ends of the number range.
#include "phiq/ggml_type.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/endian.h"
#include "base/half.h"
#include "kernels/ggml_testing.h"

namespace phiq {
namespace {

TEST(GgmlTypeTable, HasTheSizesOfTheFileFormat) {
  struct Row {
    std::string_view name;
    std::int32_t code;
    std::size_t block_size;
    std::size_t block_bytes;
  };
  const Row expected[] = {
      {"F32", 0, 1, 4},        {"F16", 1, 1, 2},       {"Q4_0", 2, 32, 18},
      {"Q4_1", 3, 32, 20},     {"Q5_0", 6, 32, 22},    {"Q5_1", 7, 32, 24},
      {"Q8_0", 8, 32, 34},     {"Q2_K", 10, 256, 84},  {"Q3_K", 11, 256, 110},
      {"Q4_K", 12, 256, 144},  {"Q5_K", 13, 256, 176}, {"Q6_K", 14, 256, 210},
      {"IQ4_NL", 20, 32, 18}, {"IQ4_XS", 23, 256, 136}, {"BF16", 30, 1, 2}};
  ASSERT_EQ(GgmlTypes().size(), std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    const GgmlTypeInfo& info = GgmlTypes()[i];
    EXPECT_EQ(info.name, expected[i].name);
    EXPECT_EQ(static_cast<std::int32_t>(info.type), expected[i].code);
    EXPECT_EQ(info.block_size, expected[i].block_size) << info.name;
    EXPECT_EQ(info.block_bytes, expected[i].block_bytes) << info.name;
    EXPECT_EQ(FindGgmlType(expected[i].code), info.type);
    EXPECT_EQ(GetGgmlTypeInfo(info.type).name, info.name);
    EXPECT_EQ(GgmlRowBytes(info.type, 3 * info.block_size), 3 * info.block_bytes);
  }
}

TEST(FindGgmlType, TakesNamesInAnyCase) {
  EXPECT_EQ(FindGgmlType("q4_k"), GgmlType::kQ4_K);
  EXPECT_EQ(FindGgmlType("Iq4_Nl"), GgmlType::kIQ4_NL);
  EXPECT_EQ(FindGgmlType("bf16"), GgmlType::kBF16);
}

TEST(FindGgmlType, IsEmptyForOtherNamesAndCodes) {
  for (const std::string_view name : {"", "Q4", "Q4_K_M", "Q4_K ", "MXFP4", "Q4-K"}) {
    EXPECT_EQ(FindGgmlType(name), std::nullopt) << name;
  }
  for (const std::int32_t code : {-1, 4, 5, 9, 15, 16, 24, 39, 1000}) {
    EXPECT_EQ(FindGgmlType(code), std::nullopt) << code;
  }
}

TEST(GgmlFloatTypes, RoundToNearestEven) {
  const float row[] = {1.0F, -2.0F, 65519.996F, 65520.0F, 1.00048828125F, 0x1p-25F};
  EXPECT_EQ(ToHex(Quantize(GgmlType::kF16, row)), "003c00c0ff7b007c003c0000");
  const float bf16_row[] = {1.0F, -2.0F, 0x1.01p0F, 0x1.03p0F, 1e-45F, 3.4e38F};
  EXPECT_EQ(ToHex(Quantize(GgmlType::kBF16, bf16_row)), "803f00c0803f823f0000807f");
  EXPECT_EQ(ToHex(Quantize(GgmlType::kF32, std::span(row).first(2))), "0000803f000000c0");
}

TEST(GgmlRow, EmptyRowsAreFine) {
  for (const GgmlTypeInfo& info : GgmlTypes()) {
    EXPECT_TRUE(Quantize(info.type, {}).empty());
    EXPECT_EQ(FindNonFinite(info.type, {}), std::nullopt);
  }
}

struct HalfField {
  GgmlType type;
  std::size_t at;  // byte of a scale or min in the block
};

class FindNonFiniteIn : public testing::TestWithParam<HalfField> {};

TEST_P(FindNonFiniteIn, NamesTheFirstBlockWithNanOrInf) {
  const GgmlTypeInfo& info = GetGgmlTypeInfo(GetParam().type);
  constexpr std::uint16_t kBad[] = {0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF};
  for (const std::uint16_t bad : kBad) {
    std::vector<std::byte> blocks(5 * info.block_bytes);
    EXPECT_EQ(FindNonFinite(info.type, blocks), std::nullopt);
    StoreLe<std::uint16_t>(bad, blocks, 3 * info.block_bytes + GetParam().at);
    EXPECT_EQ(FindNonFinite(info.type, blocks), 3U) << bad;
    StoreLe<std::uint16_t>(bad, blocks, 1 * info.block_bytes + GetParam().at);
    EXPECT_EQ(FindNonFinite(info.type, blocks), 1U) << bad;
  }
}

TEST_P(FindNonFiniteIn, AcceptsTheLargestHalf) {
  const GgmlTypeInfo& info = GetGgmlTypeInfo(GetParam().type);
  std::vector<std::byte> block(info.block_bytes);
  StoreLe<std::uint16_t>(0x7BFF, block, GetParam().at);
  EXPECT_EQ(FindNonFinite(info.type, block), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(
    EveryField, FindNonFiniteIn,
    testing::Values(HalfField{GgmlType::kF16, 0}, HalfField{GgmlType::kQ4_0, 0},
                    HalfField{GgmlType::kQ4_1, 0}, HalfField{GgmlType::kQ4_1, 2},
                    HalfField{GgmlType::kQ5_0, 0}, HalfField{GgmlType::kQ5_1, 0},
                    HalfField{GgmlType::kQ5_1, 2}, HalfField{GgmlType::kQ8_0, 0},
                    HalfField{GgmlType::kQ2_K, 80}, HalfField{GgmlType::kQ2_K, 82},
                    HalfField{GgmlType::kQ3_K, 108}, HalfField{GgmlType::kQ4_K, 0},
                    HalfField{GgmlType::kQ4_K, 2}, HalfField{GgmlType::kQ5_K, 0},
                    HalfField{GgmlType::kQ5_K, 2}, HalfField{GgmlType::kQ6_K, 208},
                    HalfField{GgmlType::kIQ4_NL, 0}, HalfField{GgmlType::kIQ4_XS, 0}),
    [](const auto& test) {
      return TestName(test.param.type) + "Byte" + std::to_string(test.param.at);
    });

TEST(FindNonFinite, FindsElementsOfFloatTypes) {
  const float f32[] = {0.0F, 3e38F, INFINITY, NAN};
  EXPECT_EQ(FindNonFinite(GgmlType::kF32, std::as_bytes(std::span(f32))), 2U);
  EXPECT_EQ(FindNonFinite(GgmlType::kF32, std::as_bytes(std::span(f32).first(2))), std::nullopt);
  const std::uint16_t bf16[] = {0x3F80, 0x7F7F, 0xFF80, 0x7FC0};
  EXPECT_EQ(FindNonFinite(GgmlType::kBF16, std::as_bytes(std::span(bf16))), 2U);
  EXPECT_EQ(FindNonFinite(GgmlType::kBF16, std::as_bytes(std::span(bf16).first(2))), std::nullopt);
}

// A row of alternating amax and -amax whose scale just reaches half's overflow at 65520: levels *
// 65520 for the types without a search, and what a scan of llama.cpp found for the others.
struct Overflow {
  GgmlType type;
  float amax;
};

class GgmlOverflow : public testing::TestWithParam<Overflow> {};

TEST_P(GgmlOverflow, IsSeenByFindNonFinite) {
  std::vector<float> x(256);
  for (const float factor : {0.9F, 1.1F, 1e3F, 1e6F, 1e12F, 1e30F}) {
    const float amax = factor * std::min(GetParam().amax, 3e38F / factor);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 2 == 0 ? amax : -amax;
    const std::vector<std::byte> bytes = Quantize(GetParam().type, x);
    EXPECT_EQ(FindNonFinite(GetParam().type, bytes).has_value(), factor > 1.0F) << amax;
  }
}

INSTANTIATE_TEST_SUITE_P(
    EveryType, GgmlOverflow,
    testing::Values(Overflow{GgmlType::kF16, 65520.0F}, Overflow{GgmlType::kQ8_0, 8.321e6F},
                    Overflow{GgmlType::kQ4_0, 524160.0F}, Overflow{GgmlType::kQ5_0, 1048320.0F},
                    Overflow{GgmlType::kQ4_1, 65520.0F}, Overflow{GgmlType::kQ5_1, 65520.0F},
                    Overflow{GgmlType::kQ2_K, 982800.0F}, Overflow{GgmlType::kQ3_K, 7.5e6F},
                    Overflow{GgmlType::kQ4_K, 4.128e6F}, Overflow{GgmlType::kQ5_K, 4.128e6F},
                    Overflow{GgmlType::kQ6_K, 2.68e8F}, Overflow{GgmlType::kIQ4_NL, 7.8e6F},
                    Overflow{GgmlType::kIQ4_XS, 2.6e8F}),
    [](const auto& test) { return TestName(test.param.type); });

class GgmlEdge : public testing::TestWithParam<GgmlTypeInfo> {
 protected:
  GgmlType type() const { return GetParam().type; }
};

TEST_P(GgmlEdge, HugeWeightsAreRefusedOrKept) {
  for (const float huge : {1e10F, 1e13F, 1e20F, 3e38F}) {
    std::vector<float> x(512, 0.01F);
    x[300] = huge;
    x[301] = -huge;
    const std::vector<std::byte> bytes = Quantize(type(), x);
    const std::size_t n_before = 300 / GetParam().block_size;
    if (type() == GgmlType::kF32 || type() == GgmlType::kBF16) {
      EXPECT_NEAR(Dequantize(type(), bytes)[300], huge, huge / 256);
    } else {
      EXPECT_EQ(FindNonFinite(type(), bytes), n_before) << huge;
    }
  }
}

TEST_P(GgmlEdge, DenormalWeightsDecodeToZero) {
  for (const float tiny : {1e-38F, 5e-39F, 1e-40F, 1e-45F}) {
    std::vector<float> x(512);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) * tiny - 2 * tiny;
    for (const float y : Dequantize(type(), Quantize(type(), x))) ASSERT_LE(std::abs(y), 5 * tiny);
  }
}

TEST_P(GgmlEdge, ZerosOfEitherSignDecodeToZero) {
  std::vector<float> x(512, -0.0F);
  for (std::size_t i = 256; i < x.size(); i += 3) x[i] = 0.0F;
  EXPECT_THAT(Dequantize(type(), Quantize(type(), x)), testing::Each(0.0F));
}

TEST_P(GgmlEdge, ConstantRowsKeepTheirValue) {
  for (const float value : {1.0F, -1.0F, 0.123F, -345.0F}) {
    const std::vector<float> x(512, value);
    for (const float y : Dequantize(type(), Quantize(type(), x))) {
      // Half-precision scales err by 2^-11 each, and bfloat16 by 2^-8.
      ASSERT_NEAR(y, value, std::abs(value) / 256);
    }
  }
}

TEST_P(GgmlEdge, OneOutlierKeepsItsValueAmongZeros) {
  for (const float outlier : {1.0F, -1.0F, 1000.0F}) {
    std::vector<float> x(512);
    x[77] = outlier;
    const std::vector<float> y = Dequantize(type(), Quantize(type(), x));
    for (std::size_t i = 0; i < x.size(); ++i) {
      // IQ4's codebook has no 0; its smallest entry is 1 of 113.
      ASSERT_NEAR(y[i], x[i], std::abs(outlier) / (i == 77 ? 256 : 100)) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType, GgmlEdge, testing::ValuesIn(GgmlTypes()),
                         [](const auto& test) { return TestName(test.param.type); });

}  // namespace
}  // namespace phiq
