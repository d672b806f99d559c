// model.safetensors.index.json: what is needed of it and what is refused.
#include "checkpoint/shard_index.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/scratch.h"

namespace phiq {
namespace {

std::string WhyRefused(std::string_view text) {
  const Failure failure = FailureOf([&] { ParseShardIndex(text, "i.json"); });
  EXPECT_TRUE(failure.code == 0 || failure.code == 3);
  return failure.text;
}

TEST(ShardIndex, ReadsShardsInTheOrderOfTheirNames) {
  const ShardIndex index = ParseShardIndex(
      R"({"metadata":{"total_size":7642159104,"total_parameters":1},"other":[{"weight_map":3}],)"
      R"("weight_map":{"z":"b.safetensors","a":"b.safetensors","m":"a.safetensors"}})",
      "i.json");
  EXPECT_EQ(index.shards, (std::vector<std::string>{"a.safetensors", "b.safetensors"}));
  EXPECT_EQ(index.weight_map,
            (std::unordered_map<std::string, std::size_t>{{"z", 1}, {"a", 1}, {"m", 0}}));
  EXPECT_EQ(index.total_size, 7642159104U);
}

TEST(ShardIndex, NeedsNoTotalSize) {
  EXPECT_EQ(ParseShardIndex(R"({"weight_map":{"a":"b"}})", "i.json").total_size, std::nullopt);
  EXPECT_EQ(ParseShardIndex(R"({"metadata":{"total_size":1.5},"weight_map":{"a":"b"}})", "i.json")
                .total_size,
            std::nullopt);
  // Words of Python's.
  for (const char* word : {"NaN", "Infinity", "1e999"}) {
    const std::string text =
        fmt::format(R"({{"metadata":{{"total_size":{}}},"weight_map":{{"a":"b"}}}})", word);
    EXPECT_EQ(WhyRefused(text), "") << word;
  }
}

TEST(ShardIndex, TakesOnlyPlainFileNames) {
  const std::pair<std::string, std::string> cases[] = {{"../../etc/x", "../../etc/x"},
                                                       {"/abs/x", "/abs/x"},
                                                       {"a/b.safetensors", "a/b.safetensors"},
                                                       {"..", ".."},
                                                       {".", "."},
                                                       {"", ""},
                                                       {"a\\\\b", "a\\b"},
                                                       {"C:x", "C:x"},
                                                       {"a\\u0000b", "a\\x00b"},
                                                       {"x\\u001b[2J/", "x\\x1b[2J/"}};
  for (const auto& [json, shown] : cases) {
    EXPECT_EQ(WhyRefused(fmt::format(R"({{"weight_map":{{"w":"{}"}}}})", json)),
              fmt::format("i.json: tensor 'w': shard name '{}' must be a plain file name", shown));
  }
  EXPECT_EQ(WhyRefused(fmt::format(R"({{"weight_map":{{"w":"{}"}}}})", std::string(255, 'n'))), "");
  EXPECT_NE(WhyRefused(fmt::format(R"({{"weight_map":{{"w":"{}"}}}})", std::string(256, 'n'))), "");
}

TEST(ShardIndex, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "is not an object"},
      {"3", "is not an object"},
      {"\"weight_map\"", "is not an object"},
      {"{}", "weight_map is missing"},
      {R"({"weight_map":{}})", "weight_map lists no tensor"},
      {R"({"weight_map":[]})", "weight_map is an array, needs an object"},
      {R"({"weight_map":"x"})", "weight_map is \"x\", needs an object"},
      {R"({"weight_map":null})", "weight_map is null, needs an object"},
      {R"({"weight_map":{"a":1}})", "tensor 'a': shard name 1 is not a string"},
      {R"({"weight_map":{"a":{}}})", "tensor 'a': shard name an object is not a string"},
      {R"({"weight_map":{"a":["x"]}})", "tensor 'a': shard name an array is not a string"},
      {R"({"weight_map":{"":"x"}})", "empty tensor name"},
      {R"({"weight_map":{"a":"x","a":"x"}})", "duplicate key 'a' in JSON"},
  };
  for (const auto& [text, wanted] : cases)
    EXPECT_EQ(WhyRefused(text), std::string("i.json: ") + wanted) << text;
}

TEST(ShardIndex, BoundsTensorsAndShards) {
  const auto index = [](int n_tensors, int n_shards) {
    std::string text = R"({"weight_map":{)";
    for (int i = 0; i < n_tensors; ++i) {
      text += fmt::format(R"({}"t{}":"s{}")", i == 0 ? "" : ",", i, i % n_shards);
    }
    return text + "}}";
  };
  EXPECT_EQ(WhyRefused(index(65'536, 1'024)), "");
  EXPECT_EQ(WhyRefused(index(65'537, 1)), "i.json: more than 65536 tensors");
  EXPECT_EQ(WhyRefused(index(1'025, 1'025)), "i.json: more than 1024 shards");
}

}  // namespace
}  // namespace phiq
