// Headers and offsets, worked out by hand. That the reader of checkpoints takes them is tested,
// too, but proves less than the runtimes' readers in tests/peers.
#include "safetensors/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/safetensors_header.h"
#include "phiq/error.h"

namespace phiq::safetensors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::uint64_t kNoLimit = 1ULL << 40;

std::vector<std::uint64_t> OffsetsInData(const Files& files) {
  std::vector<std::uint64_t> offsets;
  for (const PlacedTensor& tensor : files.tensors)
    offsets.push_back(tensor.offset_bytes - files.shards[tensor.shard].head.size());
  return offsets;
}

TEST(SafetensorsWriter, WritesTheHeaderOfTheGoldenFile) {
  // docs/formats/safetensors.md: 85 characters, here padded so that the data begins at byte 128.
  const TensorSpec a{"a", DType::kU8, {4}};
  const Files files = PlaceTensors({&a, 1}, {{"format", "mlx"}}, kNoLimit);
  ASSERT_EQ(files.shards.size(), 1U);
  const std::string json =
      R"({"__metadata__":{"format":"mlx"},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  ASSERT_EQ(json.size(), 85U);
  EXPECT_EQ(files.shards[0].head,
            std::string("\x78\0\0\0\0\0\0\0", 8) + json + std::string(120 - 85, ' '));
  EXPECT_EQ(files.shards[0].name, "model.safetensors");
  EXPECT_EQ(files.shards[0].size_bytes, 132U);
  EXPECT_EQ(files.tensors[0].offset_bytes, 128U);
  EXPECT_EQ(files.tensor_bytes, 4U);
}

TEST(SafetensorsWriter, KeepsTheGivenOrderWhereEveryTensorIsAligned) {
  const std::vector<TensorSpec> specs = {{"codes", DType::kU32, {2, 3}},
                                         {"scales", DType::kBF16, {2, 1}},
                                         {"norm", DType::kF32, {5}},
                                         {"scalar", DType::kU8, {}}};
  EXPECT_THAT(OffsetsInData(PlaceTensors(specs, {}, kNoLimit)), ElementsAre(0, 24, 28, 48));
}

TEST(SafetensorsWriter, PutsLargeElementsFirstWhereTheOrderWouldMisalignThem) {
  const std::vector<TensorSpec> specs = {{"bytes", DType::kU8, {3}},
                                         {"halves", DType::kF16, {1}},
                                         {"words", DType::kU32, {2}},
                                         {"more bytes", DType::kU8, {1}}};
  const Files files = PlaceTensors(specs, {}, kNoLimit);
  EXPECT_THAT(OffsetsInData(files), ElementsAre(10, 8, 0, 13));
  // The header is in the order of the data.
  EXPECT_LT(files.shards[0].head.find("words"), files.shards[0].head.find("halves"));
  EXPECT_LT(files.shards[0].head.find("\"bytes"), files.shards[0].head.find("more bytes"));
}

TEST(SafetensorsWriter, BeginsAShardWhereATensorWouldPassTheLimit) {
  const std::vector<TensorSpec> specs = {{"a", DType::kU8, {60}},
                                         {"b", DType::kU8, {40}},
                                         {"c", DType::kU8, {1}},
                                         {"larger than a shard", DType::kU8, {101}},
                                         {"d", DType::kU8, {100}}};
  const Files files = PlaceTensors(specs, {}, 100);
  std::vector<std::size_t> shards;
  for (const PlacedTensor& tensor : files.tensors) shards.push_back(tensor.shard);
  EXPECT_THAT(shards, ElementsAre(0, 0, 1, 2, 3));
  EXPECT_EQ(files.shards[0].name, "model-00001-of-00004.safetensors");
  EXPECT_EQ(files.shards[3].name, "model-00004-of-00004.safetensors");
  EXPECT_THAT(OffsetsInData(files), ElementsAre(0, 60, 0, 0, 0));
  EXPECT_EQ(files.tensor_bytes, 302U);
}

TEST(SafetensorsWriter, WritesAsTheSafetensorsLibraryWhenAsked) {
  // The largest types first, then names; the data begins at a multiple of 8.
  const std::vector<TensorSpec> specs = {{"b", DType::kBF16, {2}},
                                         {"a", DType::kBF16, {1}},
                                         {"codes", DType::kI8, {3}},
                                         {"words", DType::kI32, {1}}};
  const Files files =
      PlaceTensors(specs, {{"format", "pt"}}, kNoLimit, {.alignment_bytes = 8, .by_type = true});
  EXPECT_THAT(OffsetsInData(files), ElementsAre(6, 4, 10, 0));
  EXPECT_EQ(files.shards[0].head.size() % 8, 0U);
  EXPECT_LT(files.shards[0].head.size() - files.shards[0].head.rfind('}'), 9U);
}

TEST(SafetensorsWriter, PutsKnownTensorsIntoTheHead) {
  const std::vector<TensorSpec> specs = {{"weights", DType::kI32, {2}},
                                         {"shape", DType::kI32, {1}, "wxyz"}};
  const Files files = PlaceTensors(specs, {}, kNoLimit, {.alignment_bytes = 8, .by_type = true});
  const std::string& head = files.shards[0].head;
  EXPECT_TRUE(head.ends_with("wxyz"));
  EXPECT_EQ(files.tensors[1].offset_bytes, head.size() - 4);
  EXPECT_EQ(files.tensors[0].offset_bytes, head.size());
  EXPECT_EQ(files.shards[0].size_bytes, head.size() + 8);
}

TEST(SafetensorsWriter, EscapesNames) {
  const TensorSpec odd{"a\"\\\n\xC3\xA9", DType::kU8, {1}};
  const Files files = PlaceTensors({&odd, 1}, {}, kNoLimit);
  EXPECT_THAT(files.shards[0].head.substr(8), StartsWith(R"({"a\"\\\n)"
                                                         "\xC3\xA9\":"));
}

TEST(SafetensorsWriter, RefusesAHeaderThatReadersRefuse) {
  const TensorSpec a{"a", DType::kU8, {1}};
  try {
    PlaceTensors({&a, 1}, {{"much", std::string(99'000'000, 'x')}}, kNoLimit);
    FAIL() << "a header above the limit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("model.safetensors: the header needs 99000"));
  }
}

TEST(SafetensorsWriter, IsReadBack) {
  const std::vector<TensorSpec> specs = {
      {"bytes", DType::kU8, {3}}, {"empty", DType::kF32, {0, 7}}, {"words", DType::kU32, {2, 2}}};
  const Files files = PlaceTensors(specs, {{"format", "mlx"}, {"phiq.type", "4bit"}}, kNoLimit);
  const auto [tensors, metadata] = ParseSafetensorsHeader(
      std::string_view(files.shards[0].head).substr(8), files.shards[0].size_bytes, "m");
  EXPECT_EQ(metadata.at("phiq.type"), "4bit");
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto found = std::ranges::find(tensors, specs[i].name, &SourceTensor::name);
    ASSERT_NE(found, tensors.end());
    EXPECT_EQ(found->dtype, specs[i].dtype);
    EXPECT_EQ(found->shape, specs[i].shape);
    EXPECT_EQ(found->offset_bytes, files.tensors[i].offset_bytes);
    EXPECT_EQ(found->size_bytes, files.tensors[i].size_bytes);
  }
}

TEST(SafetensorsWriter, IndexNamesEveryTensorsShardInTheOrderOfNames) {
  const std::vector<TensorSpec> specs = {{"z", DType::kU8, {6}}, {"b", DType::kBF16, {3}}};
  const Files files = PlaceTensors(specs, {}, 6);
  EXPECT_EQ(MakeIndex(files, specs, 48),
            R"({
    "metadata": {
        "total_size": 12,
        "total_parameters": 48
    },
    "weight_map": {
        "b": "model-00002-of-00002.safetensors",
        "z": "model-00001-of-00002.safetensors"
    }
})");
}

}  // namespace
}  // namespace phiq::safetensors
