// Where the tensors of an output stand, and the exact bytes before them.
#include "formats/gguf/layout.h"

#include <gmock/gmock.h>

#include <string>

#include "formats/gguf/gguf_bytes.h"
#include "formats/gguf/tensor_names.h"

namespace phiq::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

PlanLine Line(TensorRole role, std::int32_t layer, std::vector<std::uint64_t> shape, GgmlType type,
              std::uint64_t size_bytes) {
  PlanLine line;
  line.role = role;
  line.layer = layer;
  line.shape = std::move(shape);
  line.encoding = type;
  line.size_bytes = size_bytes;
  return line;
}

PlanLine FactorLine(std::string name) {
  PlanLine line = Line(TensorRole::kTokenEmbedding, -1, {2}, GgmlType::kF32, 8);
  line.name = std::move(name);
  line.table =
      line.name == "config:long_factor" ? ConfigTable::kLongFactor : ConfigTable::kShortFactor;
  return line;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

std::string_view Text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Of the arrays of a file, in their order.
std::vector<std::string> Names(const Plan& plan, const OutputLayout& layout, std::size_t file) {
  std::vector<std::string> names;
  for (const PlacedArray& array : layout.arrays)
    if (array.file == file) names.push_back(TensorName(plan.lines[array.line]));
  return names;
}
std::vector<std::uint64_t> Offsets(const OutputLayout& layout, std::size_t file) {
  std::vector<std::uint64_t> offsets;
  for (const PlacedArray& array : layout.arrays)
    if (array.file == file) offsets.push_back(array.offset_bytes);
  return offsets;
}

TEST(GgufLayout, WritesTheHeaderByteForByte) {
  Plan plan;
  plan.lines = {Line(TensorRole::kMlpDown, 0, {3, 32}, GgmlType::kQ8_0, 102)};
  const Metadata metadata = {
      {"a", std::uint32_t{7}},
      {"b", std::string("hi")},
      {"c", std::vector<std::int32_t>{1, -1}},
      {"d", std::vector<std::string>{"x", ""}},
      {"e", true},
      {"f", 1.0F},
  };
  const OutputLayout layout = MakeLayout(plan, metadata, std::nullopt);
  ASSERT_EQ(layout.files.size(), 1U);
  EXPECT_EQ(Hex(Text(layout.files[0].head)),
            "47475546"
            "03000000"
            "0100000000000000"
            "0600000000000000"
            "0100000000000000"
            "61"
            "04000000"
            "07000000"
            "0100000000000000"
            "62"
            "08000000"
            "0200000000000000"
            "6869"
            "0100000000000000"
            "63"
            "09000000"
            "05000000"
            "0200000000000000"
            "01000000"
            "ffffffff"
            "0100000000000000"
            "64"
            "09000000"
            "08000000"
            "0200000000000000"
            "0100000000000000"
            "78"
            "0000000000000000"
            "0100000000000000"
            "65"
            "07000000"
            "01"
            "0100000000000000"
            "66"
            "06000000"
            "0000803f"
            // "blk.0.ffn_down.weight", two dimensions, the contiguous one first; Q8_0; offset 0
            "1500000000000000"
            "626c6b2e302e66666e5f646f776e2e776569676874"
            "02000000"
            "2000000000000000"
            "0300000000000000"
            "08000000"
            "0000000000000000"
                // 24 + 17 + 23 + 33 + 42 + 14 + 17 + 61 = 231 bytes so far
                + std::string(2 * (256 - 231), '0'));
}

TEST(GgufLayout, EncodesEveryValueTypeWithItsCode) {
  const Metadata metadata = {
      {"0", std::uint8_t{0xA1}},
      {"1", std::int8_t{-2}},
      {"2", std::uint16_t{0xA1B2}},
      {"3", std::int16_t{-2}},
      {"a", std::uint64_t{1} << 40},
      {"b", std::int64_t{-2}},
      {"c", 1.0},
      {"7", std::vector<bool>{true, false}},
  };
  const OutputLayout layout = MakeLayout(Plan(), metadata, std::nullopt);
  using testing::Bytes;
  Bytes expected = Bytes::Head(0, 8);
  expected.Str("0").I32(0).U8(0xA1).Str("1").I32(1).U8(0xFE).Str("2").I32(2).U16(0xA1B2);
  expected.Str("3").I32(3).U16(0xFFFE).Str("a").I32(10).U64(0x10000000000).Str("b").I32(11).I64(-2);
  expected.Str("c").I32(12).U64(0x3FF0000000000000).Str("7").I32(9).I32(7).U64(2).U8(1).U8(0);
  expected.PadTo(32);
  EXPECT_EQ(Hex(Text(layout.files[0].head)), Hex(expected.text()));
}

TEST(GgufLayout, NamesEachRole) {
  const auto name = [](TensorRole role, std::int32_t layer) {
    return TensorName(Line(role, layer, {2}, GgmlType::kF32, 8));
  };
  EXPECT_EQ(name(TensorRole::kTokenEmbedding, -1), "token_embd.weight");
  EXPECT_EQ(name(TensorRole::kOutputHead, -1), "output.weight");
  EXPECT_EQ(name(TensorRole::kOutputNorm, -1), "output_norm.weight");
  EXPECT_EQ(name(TensorRole::kAttentionNorm, 3), "blk.3.attn_norm.weight");
  EXPECT_EQ(name(TensorRole::kAttentionQkv, 3), "blk.3.attn_qkv.weight");
  EXPECT_EQ(name(TensorRole::kAttentionOutput, 3), "blk.3.attn_output.weight");
  EXPECT_EQ(name(TensorRole::kMlpNorm, 3), "blk.3.ffn_norm.weight");
  EXPECT_EQ(name(TensorRole::kMlpGateUp, 3), "blk.3.ffn_up.weight");
  EXPECT_EQ(name(TensorRole::kMlpDown, 31), "blk.31.ffn_down.weight");
  EXPECT_EQ(TensorName(FactorLine("config:long_factor")), "rope_factors_long.weight");
  EXPECT_EQ(TensorName(FactorLine("config:short_factor")), "rope_factors_short.weight");
}

TEST(GgufLayout, OrdersLikeLlamaQuantize) {
  Plan plan;
  plan.lines = {Line(TensorRole::kTokenEmbedding, -1, {2}, GgmlType::kF32, 8),
                Line(TensorRole::kMlpDown, 10, {2}, GgmlType::kF32, 8),
                Line(TensorRole::kMlpDown, 2, {2}, GgmlType::kF32, 8),
                Line(TensorRole::kAttentionNorm, 2, {2}, GgmlType::kF32, 8),
                Line(TensorRole::kOutputNorm, -1, {2}, GgmlType::kF32, 8),
                FactorLine("config:long_factor")};
  EXPECT_THAT(
      Names(plan, MakeLayout(plan, {}, std::nullopt), 0),
      ElementsAre("output_norm.weight", "rope_factors_long.weight", "token_embd.weight",
                  "blk.2.attn_norm.weight", "blk.2.ffn_down.weight", "blk.10.ffn_down.weight"));
}

TEST(GgufLayout, PadsEveryTensorTheLastOneToo) {
  Plan plan;  // 102 -> 128, 8 -> 32, 40 -> 64
  plan.lines = {Line(TensorRole::kMlpDown, 0, {3, 32}, GgmlType::kQ8_0, 102),
                Line(TensorRole::kAttentionNorm, 0, {2}, GgmlType::kF32, 8),
                Line(TensorRole::kMlpNorm, 0, {10}, GgmlType::kF32, 40)};
  const OutputLayout layout = MakeLayout(plan, {}, std::nullopt);
  const PlacedFile& file = layout.files[0];
  // Header: 24 + three infos of 8 + name + 4 + 8 * rank + 4 + 8; names of 22, 21 and 21 bytes.
  const std::uint64_t header =
      24 + (8 + 22 + 4 + 8 + 12) + (8 + 21 + 4 + 16 + 12) + (8 + 21 + 4 + 8 + 12);
  ASSERT_EQ(header, 192U);
  EXPECT_EQ(file.head.size(), 192U);
  EXPECT_THAT(Names(plan, layout, 0), ElementsAre("blk.0.attn_norm.weight", "blk.0.ffn_down.weight",
                                                  "blk.0.ffn_norm.weight"));
  EXPECT_THAT(Offsets(layout, 0), ElementsAre(192, 192 + 32, 192 + 32 + 128));
  EXPECT_EQ(file.size_bytes, 192U + 32 + 128 + 64);
  EXPECT_EQ(layout.arrays[1].line, 0U);
  EXPECT_EQ(file.name, "");
}

TEST(GgufLayout, StartsANewPartWhereOneWouldPassTheLimit) {
  Plan plan;
  for (std::int32_t i = 0; i < 5; ++i)
    plan.lines.push_back(Line(TensorRole::kMlpNorm, i, {10}, GgmlType::kF32, 40));
  const Metadata metadata = {{"general.architecture", std::string("phi3")}};
  const OutputLayout layout = MakeLayout(plan, metadata, 128);  // two tensors of 64 padded bytes
  ASSERT_EQ(layout.files.size(), 3U);
  EXPECT_EQ(layout.files[0].name, "-00001-of-00003.gguf");
  EXPECT_EQ(layout.files[2].name, "-00003-of-00003.gguf");
  EXPECT_THAT(Names(plan, layout, 0),
              ElementsAre("blk.0.ffn_norm.weight", "blk.1.ffn_norm.weight"));
  EXPECT_THAT(Names(plan, layout, 2), ElementsAre("blk.4.ffn_norm.weight"));

  using testing::Bytes;
  Bytes last = Bytes::Head(1, 3);
  last.Str("split.no")
      .I32(2)
      .U16(2)
      .Str("split.count")
      .I32(2)
      .U16(3)
      .Str("split.tensors.count")
      .I32(5)
      .I32(5);
  last.TensorInfo("blk.4.ffn_norm.weight", {10}, 0, 0).PadTo(32);
  EXPECT_EQ(Hex(Text(layout.files[2].head)), Hex(last.text()));
  EXPECT_EQ(layout.files[2].size_bytes, last.text().size() + 64);

  Bytes first = Bytes::Head(2, 4);
  first.Str("general.architecture").I32(8).Str("phi3");
  first.Str("split.no")
      .I32(2)
      .U16(0)
      .Str("split.count")
      .I32(2)
      .U16(3)
      .Str("split.tensors.count")
      .I32(5)
      .I32(5);
  first.TensorInfo("blk.0.ffn_norm.weight", {10}, 0, 0)
      .TensorInfo("blk.1.ffn_norm.weight", {10}, 0, 64)
      .PadTo(32);
  EXPECT_EQ(Hex(Text(layout.files[0].head)), Hex(first.text()));
}

TEST(GgufLayout, KeepsOneFileWhenAllFits) {
  Plan plan;
  plan.lines = {Line(TensorRole::kMlpNorm, 0, {10}, GgmlType::kF32, 40),
                Line(TensorRole::kMlpNorm, 1, {10}, GgmlType::kF32, 40)};
  const OutputLayout layout = MakeLayout(plan, {}, 128);
  ASSERT_EQ(layout.files.size(), 1U);
  EXPECT_EQ(layout.files[0].name, "");
  EXPECT_EQ(Text(layout.files[0].head).find("split."), std::string_view::npos);
}

TEST(GgufLayout, RefusesAPartSmallerThanATensor) {
  Plan plan;
  plan.lines = {Line(TensorRole::kMlpNorm, 0, {10}, GgmlType::kF32, 40)};
  try {
    MakeLayout(plan, {}, 63);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_STREQ(error.what(),
                 "tensor 'blk.0.ffn_norm.weight': a part may hold 63 bytes but this tensor has 64 "
                 "(use a larger --split-max-size)");
  }
}

}  // namespace
}  // namespace phiq::gguf
