// Bytes that llama.cpp's quantizers (ggml-quants.c of ggml-org/ggml d99724f2, built without FMA)
// wrote for one row of 256 weights, without an importance matrix and with one.
#include <gtest/gtest.h>

#include "kernels/ggml_testing.h"
#include "phiq/ggml_type.h"

namespace phiq {
namespace {

struct Golden {
  GgmlType type;
  std::size_t size_bytes;
  std::uint64_t hash;  // of the whole row
  double squared_error;
  std::uint64_t weighted_hash;  // with importance 1 + i % 7 of column i
  double weighted_error;        // its squared error, weighted with that
  std::string_view first_block;
};

constexpr Golden kGolden[] = {
    {GgmlType::kQ8_0, 272, 0x97e0a1e7f0b81a4dU, 0.000854997, 0x97e0a1e7f0b81a4dU, 0.00350204,
     "4d1e9dfb59b61472d02e8be947a50361be1c7ad73593f14fac0a68c62481df3d9af8"},
    {GgmlType::kQ4_0, 144, 0xdd038aa0c43924e6U, 0.236744, 0x48dcd23e1eff539bU, 0.760703,
     "402ef258be1379df359bf147ac0268ce248a"},
    {GgmlType::kQ4_1, 160, 0xa905ce72f1b8169eU, 0.228275, 0xa2b352cb73da7006U, 0.600535,
     "892e40baf257bd1379cf358ae146ac0268bd2479"},
    {GgmlType::kQ5_0, 176, 0xb1823478adad15daU, 0.053134, 0x72f604ad6782366bU, 0.124629,
     "402ab4b4a525f4bf7b27e3ae5a16d19d4904c08c38f4"},
    {GgmlType::kQ5_1, 192, 0x0357c188b8bd9b90U, 0.0456522, 0x7fbf235cd56320f4U, 0.132674,
     "532a40bab4b4a525f3bf6b27e2ae5a16d19d4904c07c38f3"},
    {GgmlType::kQ2_K, 84, 0xdd1a29d1ca9eb050U, 3.39629, 0xfd0ea4f2c89931d3U, 11.5235,
     "bcdfeebeefaceeacdedecddffedeffce6cb51b6cc61ba1c66cb1db6cb61b6cc61b71c618b1c66cb21b6d"
     "c618b1c628b168b1d66cb11b6c861bb1c66cb1d66cb21b6d861b71c628b1d76cb61b6d861bb101289d2a"},
    {GgmlType::kQ3_K, 110, 0xf1de4b7d498a8543U, 0.921995, 0xebac5890770ca1a8U, 3.56936,
     "66cdb366d9336c9936cc9b66cdb366d94d1ae74cb3e758b3ed18b74c9ae74cb3897833de9d7727ed886b"
     "e2d97837de9ddb2f7589dc227688df2275c91f7285d84827e28d7823de897722dd8877e29d785df2b79c"
     "2db68b5de2f7485d22b7882d66a260aa50aa660900fc003fdf9f"},
    {GgmlType::kQ4_K, 144, 0xe8b832673547499cU, 0.189324, 0xbae8d738b85f1c16U, 0.608085,
     "de168022fffffffafff8fafaceafbfbcc2278dd3499e055ab1167cc2388de449af056bb1277cd3389ee4"
     "5aa0166bc22748ad0469c0157bd1379cf358ae046ac0268be2379df359be157ad1268ce248ada0156bc1"
     "278cd3489e045ab0167bc2378de349ae056ab1267cd2389de459af15268ce248ad0459b0157bd1379ce3"
     "48ae046ac0267bd2379df359be156ac1268c"},
    {GgmlType::kQ5_K, 176, 0x9b49f22ab1b674adU, 0.0434448, 0xfdfd4604b6e0c396U, 0.143154,
     "86125322fdfdfdfdfefbfdfeffcdedfd26cc9366c9336499324c9926cd9366d9336c9936cc9b66cdb366"
     "d9326c9936cca35f1bd6924e0ac6813df9b4602ce7a35f1bd7924e0ac5713df8a4602ce7a35f915d09c5"
     "803cf8b36f2be7a26e1ad6914d09c4703cf7b37f2be7a25e1ad5814d702be7a35f1ad6924d09c5813cf8"
     "b4602be7935e1ad6924d09c5703cf8a46f2b5e1ad5915d09c5803cf8b36f2be6a25e1ad6914d09c4703c"
     "f7b36f2be7a25e1a"},
    {GgmlType::kQ6_K, 210, 0xc55ffe6e40017579U, 0.0101838, 0x597078ce1a643247U, 0.0395621,
     "45df28bc069f137cf08ad367f14ade285ed67df57c038b02aa22b931b85fd75e26ac058d037bf179d258"
     "d048ce27af2583fc741d960eb62fd840b961da53fb74d158bf37be25ad048b047bf37ad159d0c941ea63"
     "eb74fb741d951ea72fc841c9bf35ad169b048df26be069d147cf38bd1a922c840d85ed77ff57d038b04a"
     "a22b6cb11b6cc61b71c61cb1cb6cb21b6cc6e74d3ad04d37904ae7913ae44d3a904d18b1c66cb11b6c86"
     "1b71c61cb1c76cb22453f9248ef9138ef4538d2452f9248e8d81877c897a8677807f897a867a8487758a"},
    {GgmlType::kIQ4_NL, 144, 0x6672aca59ef2ae01U, 0.259605, 0x742eb5d1acbf5479U, 0.961785,
     "981ef157ce137adf249be146bd0258ce137a"},
    {GgmlType::kIQ4_XS, 136, 0x4cba001b52971ec7U, 0.261576, 0x71fcf44c71a2765aU, 0.970435,
     "ab8a3c0ce00ee021f157ce137adf249be146bd0258ce137a42fd9621ec741fda530eb831fd9620eba721"
     "ec751fda530eb842fd9620ec741f248be035acf157ce137adf249be146bde035acf157ce1369df249be1"
     "36adf258630fc942fea721ec751fda530eb842fd47be1269df248be035adf157ce137adf0269df138be0"
     "35adf147ce1269df249b"},
};

std::vector<float> GoldenRow() {
  std::vector<float> x(256);
  for (int i = 0; i < 256; ++i) {
    x[static_cast<std::size_t>(i)] = static_cast<float>((37 * i + 11) % 101 - 50) / 64.0F;
  }
  return x;
}

// FNV-1a with the start value that the hashes were made with.
std::uint64_t Hash(std::span<const std::byte> bytes) {
  std::uint64_t h = 1469598103934665603U;
  for (const std::byte b : bytes) h = (h ^ std::to_integer<std::uint64_t>(b)) * 1099511628211U;
  return h;
}

class GgmlGolden : public testing::TestWithParam<Golden> {};

TEST_P(GgmlGolden, FirstBlockHasTheBytesOfLlamaQuantize) {
  const std::vector<std::byte> bytes = Quantize(GetParam().type, GoldenRow());
  const std::size_t block_bytes = GetGgmlTypeInfo(GetParam().type).block_bytes;
  EXPECT_EQ(ToHex(std::span(bytes).first(block_bytes)), GetParam().first_block);
}

TEST_P(GgmlGolden, RowHasTheHashOfLlamaQuantize) {
  const std::vector<std::byte> bytes = Quantize(GetParam().type, GoldenRow());
  EXPECT_EQ(bytes.size(), GetParam().size_bytes);
  EXPECT_EQ(Hash(bytes), GetParam().hash);
}

TEST_P(GgmlGolden, DecodesWithTheErrorOfLlamaQuantize) {
  const std::vector<float> x = GoldenRow();
  const std::vector<float> y = Dequantize(GetParam().type, Quantize(GetParam().type, x));
  double squared_error = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    squared_error += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  }
  // The expected sums are printed with six digits.
  EXPECT_NEAR(squared_error, GetParam().squared_error, 1e-5 * GetParam().squared_error);
}

std::vector<float> GoldenImportance() {
  std::vector<float> importance(256);
  for (std::size_t i = 0; i < 256; ++i) importance[i] = static_cast<float>(1 + i % 7);
  return importance;
}

TEST_P(GgmlGolden, RowHasTheHashOfLlamaQuantizeWithAnImportanceMatrix) {
  const std::vector<float> x = GoldenRow(), importance = GoldenImportance();
  std::vector<std::byte> bytes(GetParam().size_bytes);
  QuantizeGgmlRow(GetParam().type, importance, x, bytes);
  EXPECT_EQ(Hash(bytes), GetParam().weighted_hash);
  const std::vector<float> y = Dequantize(GetParam().type, bytes);
  double error = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i)
    error += importance[i] * (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  EXPECT_NEAR(error, GetParam().weighted_error, 1e-5 * GetParam().weighted_error);
}

INSTANTIATE_TEST_SUITE_P(EveryType, GgmlGolden, testing::ValuesIn(kGolden),
                         [](const auto& test) { return TestName(test.param.type); });

struct ZeroBlock {
  GgmlType type;
  std::string_view start;  // hex of the first bytes; `rest` repeats to the end of the block
  std::string_view rest;
};

class GgmlZeroBlock : public testing::TestWithParam<ZeroBlock> {};

TEST_P(GgmlZeroBlock, HasTheBytesOfLlamaQuantize) {
  const GgmlTypeInfo& info = GetGgmlTypeInfo(GetParam().type);
  std::string expected(GetParam().start);
  while (expected.size() < 2 * info.block_bytes) expected += GetParam().rest;
  EXPECT_EQ(ToHex(Quantize(info.type, std::vector<float>(info.block_size))), expected);
}

INSTANTIATE_TEST_SUITE_P(
    EveryType, GgmlZeroBlock,
    testing::Values(ZeroBlock{GgmlType::kQ4_0, "0080", "88"}, ZeroBlock{GgmlType::kQ4_1, "", "00"},
                    ZeroBlock{GgmlType::kQ5_0, "0080ffffffff", "00"},
                    ZeroBlock{GgmlType::kQ5_1, "", "00"}, ZeroBlock{GgmlType::kQ8_0, "", "00"},
                    ZeroBlock{GgmlType::kQ2_K, "", "00"}, ZeroBlock{GgmlType::kQ3_K, "", "00"},
                    ZeroBlock{GgmlType::kQ4_K, "", "00"}, ZeroBlock{GgmlType::kQ5_K, "", "00"},
                    ZeroBlock{GgmlType::kQ6_K, "", "00"},
                    ZeroBlock{GgmlType::kIQ4_NL, "0000", "88"},
                    ZeroBlock{GgmlType::kIQ4_XS, "0080aaaa00000000", "88"}),
    [](const auto& test) { return TestName(test.param.type); });

// With an importance matrix the searches leave code 0 and scale 0 in blocks of zeros.
TEST(GgmlZeroBlocks, AreZeroBytesWithAnImportanceMatrix) {
  for (const GgmlType type :
       {GgmlType::kQ4_0, GgmlType::kQ5_0, GgmlType::kQ4_1, GgmlType::kQ5_1, GgmlType::kQ2_K,
        GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    std::vector<std::byte> bytes(GgmlRowBytes(type, 256));
    QuantizeGgmlRow(type, GoldenImportance(), std::vector<float>(256), bytes);
    EXPECT_EQ(bytes, std::vector<std::byte>(bytes.size())) << TestName(type);
  }
}

}  // namespace
}  // namespace phiq
