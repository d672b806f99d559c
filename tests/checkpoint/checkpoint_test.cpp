// Checkpoints of one file and of several, made by hand.
#include "phiq/checkpoint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "checkpoint/scratch.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// A file of U8 tensors of two bytes each, named by one letter, which is also their content.
std::string Letters(std::string_view names) {
  std::string header = "{", data;
  for (std::size_t i = 0; i < names.size(); ++i) {
    header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[2],"data_offsets":[{},{}]}})",
                          i == 0 ? "" : ",", names[i], 2 * i, 2 * i + 2);
    data += std::string(2, names[i]);
  }
  return SafetensorsFile(header + "}", data);
}

class CheckpointFiles : public testing::Test {
 protected:
  void WriteIndex(const std::string& weight_map, const std::string& metadata = "{}") {
    scratch_.Write("model.safetensors.index.json",
                   fmt::format(R"({{"metadata":{},"weight_map":{{{}}}}})", metadata, weight_map));
  }
  Checkpoint Open(const std::string& name = "") {
    return OpenCheckpoint(LocateCheckpoint((scratch_.path() / name).native(), warnings_.fn()),
                          warnings_.fn());
  }
  // Code and message, the folder left out of it.
  std::pair<int, std::string> WhyRefused() {
    const Failure failure = FailureOf([&] { Open(); });
    const std::string folder = scratch_.path().native() + "/";
    EXPECT_EQ(failure.text.compare(0, folder.size(), folder), 0) << failure.text;
    return {failure.code, failure.text.substr(std::min(folder.size(), failure.text.size()))};
  }
  static std::string NamesOf(const Checkpoint& checkpoint) {
    std::string names;
    for (const SourceTensor& tensor : checkpoint.tensors()) names += tensor.name;
    return names;
  }

  Scratch scratch_;
  Warnings warnings_;
};

TEST_F(CheckpointFiles, OpensASingleFile) {
  scratch_.Write("model.safetensors", Letters("ba"));
  const Checkpoint checkpoint = Open();
  EXPECT_EQ(NamesOf(checkpoint), "ba");
  ASSERT_NE(checkpoint.Find("a"), nullptr);
  EXPECT_EQ(checkpoint.Find("a")->offset_bytes, checkpoint.Find("b")->offset_bytes + 2);
  EXPECT_EQ(checkpoint.Find("c"), nullptr);
  EXPECT_EQ(checkpoint.Find(""), nullptr);
  std::array<std::byte, 1> byte = {};
  checkpoint.Read(*checkpoint.Find("a"), 1, byte);
  EXPECT_EQ(byte[0], std::byte{'a'});
  checkpoint.CheckUnchanged();
  EXPECT_TRUE(checkpoint.IsShard(scratch_.path() / "model.safetensors"));
  EXPECT_FALSE(checkpoint.IsShard(scratch_.path() / "other"));
}

TEST_F(CheckpointFiles, OrdersTensorsByShardAndOffset) {
  scratch_.Write("s2.safetensors", Letters("za"));
  scratch_.Write("s1.safetensors", Letters("yb"));
  WriteIndex(
      R"("a":"s2.safetensors","b":"s1.safetensors","y":"s1.safetensors","z":"s2.safetensors")",
      R"({"total_size":8})");
  const Checkpoint checkpoint = Open();
  EXPECT_EQ(NamesOf(checkpoint), "ybza");
  EXPECT_THAT(checkpoint.shards(),
              ElementsAre(scratch_.path() / "s1.safetensors", scratch_.path() / "s2.safetensors"));
  std::array<std::byte, 2> bytes = {};
  checkpoint.Read(*checkpoint.Find("z"), 0, bytes);
  EXPECT_EQ(bytes[0], std::byte{'z'});
  EXPECT_THAT(warnings_.texts, ElementsAre());
}

TEST_F(CheckpointFiles, OpensTheFileThatWasNamed) {
  scratch_.Write("model.safetensors", Letters("a"));
  scratch_.Write("other.safetensors", Letters("b"));
  scratch_.Write("s1.safetensors", Letters("c"));
  scratch_.Write("x.safetensors.index.json", R"({"weight_map":{"c":"s1.safetensors"}})");
  EXPECT_EQ(NamesOf(Open("other.safetensors")), "b");
  EXPECT_EQ(NamesOf(Open("x.safetensors.index.json")), "c");
  EXPECT_EQ(NamesOf(Open()), "a");
}

TEST_F(CheckpointFiles, PrefersTheSingleFileAndNamesWhatItIgnores) {
  scratch_.Write("model.safetensors", Letters("q"));
  scratch_.Write("consolidated.safetensors", Letters("q"));
  scratch_.Write("model.fp16.safetensors", Letters("q"));
  scratch_.Write("model-00001-of-00001.safetensors", Letters("a"));
  WriteIndex(R"("a":"model-00001-of-00001.safetensors")");
  EXPECT_EQ(NamesOf(Open()), "q");
  const std::string single = (scratch_.path() / "model.safetensors").native();
  const std::string warning =
      single +
      ": is taken, as transformers does, and model-00001-of-00001.safetensors, "
      "model.fp16.safetensors, model.safetensors.index.json are ignored";
  EXPECT_THAT(warnings_.texts, ElementsAre(warning));
  // An index without its shards, or one that is broken, decides nothing either.
  fs::remove(scratch_.path() / "model-00001-of-00001.safetensors");
  EXPECT_EQ(NamesOf(Open()), "q");
  scratch_.Write("model.safetensors.index.json", "");
  EXPECT_EQ(NamesOf(Open()), "q");
  // The index that belongs to the single file is none of them.
  warnings_.texts.clear();
  fs::remove(scratch_.path() / "model.fp16.safetensors");
  WriteIndex(R"("q":"model.safetensors")", R"({"total_size":3})");
  EXPECT_EQ(NamesOf(Open()), "q");
  EXPECT_THAT(warnings_.texts, ElementsAre(single + ".index.json: total_size is 3 but the tensors "
                                                    "have 2 bytes"));
}

TEST_F(CheckpointFiles, NamesShardsThatTheIndexLacks) {
  scratch_.Write("s1.safetensors", Letters("a"));
  scratch_.Write("s2.safetensors", Letters("b"));
  WriteIndex(R"("a":"s1.safetensors")");
  EXPECT_EQ(NamesOf(Open()), "a");
  EXPECT_THAT(warnings_.texts,
              ElementsAre((scratch_.path() / "s2.safetensors").native() +
                          ": is not in model.safetensors.index.json and is ignored"));
}

TEST_F(CheckpointFiles, TakesNumberedShardsWithoutAnIndex) {
  scratch_.Write("model-00002-of-00002.safetensors", Letters("b"));
  const std::string folder = scratch_.path().native() + "/";
  const auto refusal = [&] { return FailureOf([&] { Open(); }); };
  EXPECT_EQ(refusal().text, folder +
                                ": 1 of 2 shards missing, the first is number 1 (incomplete "
                                "download? fetch them again)");
  EXPECT_EQ(refusal().code, 4);
  scratch_.Write("model-00001-of-00002.safetensors", Letters("a"));
  scratch_.Write("adapter_model-00001-of-00003.safetensors", Letters("x"));
  EXPECT_EQ(NamesOf(Open()), "ab");
  EXPECT_THAT(warnings_.texts, ElementsAre(folder + ": no model.safetensors.index.json: the 2 "
                                                    "numbered shards are taken"));
  scratch_.Write("model-00001-of-00003.safetensors", Letters("c"));
  EXPECT_EQ(refusal().text,
            folder +
                ": no model.safetensors.index.json, and several sets of shards: "
                "model-00001-of-00002.safetensors, model-00001-of-00003.safetensors (leave "
                "the files of one model only)");
  EXPECT_EQ(refusal().code, 3);
}

TEST_F(CheckpointFiles, RefusesATensorInTwoNumberedShards) {
  scratch_.Write("model-1-of-2.safetensors", Letters("ab"));
  scratch_.Write("model-2-of-2.safetensors", Letters("b"));
  EXPECT_EQ(WhyRefused(),
            std::pair(3, std::string("model-1-of-2.safetensors: tensor 'b': is also in "
                                     "model-2-of-2.safetensors")));
}

TEST_F(CheckpointFiles, NamesEveryMissingShard) {
  scratch_.Write("s1.safetensors", Letters("a"));
  WriteIndex(
      R"("a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors","d":"s3.safetensors")");
  EXPECT_EQ(WhyRefused(),
            std::pair(4, std::string(
                             "model.safetensors.index.json: 2 of 3 shards missing: s2.safetensors "
                             "(2 tensors), s3.safetensors (1 tensor) (incomplete download? fetch "
                             "them again)")));
  WriteIndex(
      R"("a":"s1.safetensors","b":"s2.safetensors","c":"s3.safetensors","d":"s4.safetensors",)"
      R"("e":"s5.safetensors","f":"s6.safetensors","g":"s7.safetensors")");
  EXPECT_THAT(WhyRefused().second, HasSubstr("6 of 7 shards missing: s2.safetensors (1 tensor), "));
  EXPECT_THAT(WhyRefused().second, HasSubstr("s6.safetensors (1 tensor), ... (incomplete"));
}

TEST_F(CheckpointFiles, RecognizesAStaleIndex) {
  scratch_.Write("model-00001-of-00002.safetensors", Letters("a"));
  scratch_.Write("model-00002-of-00002.safetensors", Letters("b"));
  WriteIndex(R"("a":"model-00001-of-00003.safetensors","b":"model-00002-of-00003.safetensors",)"
             R"("c":"model-00003-of-00003.safetensors")");
  EXPECT_EQ(
      WhyRefused(),
      std::pair(
          3, std::string("model.safetensors.index.json: index does not match the files: 3 of its "
                         "3 shards are not here, and 2 other safetensors files are, such as "
                         "model-00001-of-00002.safetensors (delete or fix the index)")));
}

// What copying an index from another save of the model leaves: whether a tensor is needed shows
// when the model is described.
TEST_F(CheckpointFiles, WarnsOfAnIndexThatSaysMoreThanTheShards) {
  scratch_.Write("s1.safetensors", Letters("ab"));
  scratch_.Write("s2.safetensors", Letters("c"));
  const std::string index = (scratch_.path() / "model.safetensors.index.json").native();
  WriteIndex(R"("a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors")");
  EXPECT_EQ(NamesOf(Open()), "abc");
  WriteIndex(R"("a":"s1.safetensors","c":"s2.safetensors")");
  EXPECT_EQ(NamesOf(Open()), "abc");
  WriteIndex(
      R"("a":"s1.safetensors","b":"s1.safetensors","c":"s2.safetensors","d":"s2.safetensors")");
  EXPECT_EQ(NamesOf(Open()), "abc");
  WriteIndex(
      R"("a":"s1.safetensors","b":"s1.safetensors","c":"s2.safetensors","e":"s2.safetensors",)"
      R"("d":"s1.safetensors")");
  EXPECT_EQ(NamesOf(Open()), "abc");
  EXPECT_THAT(
      warnings_.texts,
      ElementsAre(index + ": 1 tensor is in another shard than it says: 'b' is in s1.safetensors",
                  index + ": 1 tensor of the shards is not in it, 'b' of s1.safetensors first",
                  index + ": 'd' should be in s2.safetensors and is not",
                  index + ": 2 of its tensors are in no shard, such as 'd'"));
}

TEST_F(CheckpointFiles, RefusesATensorInTwoShards) {
  scratch_.Write("s1.safetensors", Letters("ab"));
  scratch_.Write("s2.safetensors", Letters("b"));
  WriteIndex(R"("a":"s1.safetensors","b":"s2.safetensors")");
  EXPECT_EQ(WhyRefused(),
            std::pair(3, std::string("s1.safetensors: tensor 'b': is also in s2.safetensors")));
}

TEST_F(CheckpointFiles, NeedsWeights) {
  scratch_.Write("config.json", "{}");
  const Failure failure = FailureOf([&] { Open(); });
  EXPECT_EQ(failure.code, 4);
  EXPECT_THAT(failure.text, HasSubstr("no model.safetensors and no model.safetensors.index.json"));
}

TEST_F(CheckpointFiles, ReadsPastFourGiB) {
  // Sparse: three tensors, the last one behind 4 GiB + 6 bytes of the first two.
  constexpr std::uint64_t kBig = (std::uint64_t{1} << 32) + 4;
  const std::string header =
      fmt::format(R"({{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}},)"
                  R"("b":{{"dtype":"BF16","shape":[1],"data_offsets":[{0},{1}]}},)"
                  R"("c":{{"dtype":"U8","shape":[3],"data_offsets":[{1},{2}]}}}})",
                  kBig, kBig + 2, kBig + 5);
  const fs::path file = scratch_.Write("model.safetensors", SafetensorsFile(header, ""));
  const std::uint64_t data_offset = fs::file_size(file);
  fs::resize_file(file, data_offset + kBig + 5);
  {
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(data_offset + kBig + 2));
    out << "xyz";
  }
  const Checkpoint checkpoint = Open();
  const SourceTensor* c = checkpoint.Find("c");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->offset_bytes, data_offset + kBig + 2);
  std::array<std::byte, 2> bytes = {};
  checkpoint.Read(*c, 1, bytes);
  EXPECT_EQ(bytes[0], std::byte{'y'});
  EXPECT_EQ(bytes[1], std::byte{'z'});
  EXPECT_EQ(checkpoint.Find("a")->n_elements(), kBig);
}

TEST_F(CheckpointFiles, NoticesAChangedShard) {
  const fs::path file = scratch_.Write("model.safetensors", Letters("a"));
  const Checkpoint checkpoint = Open();
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_EQ(FailureOf([&] { checkpoint.CheckUnchanged(); }).code, 8);
  std::array<std::byte, 2> bytes = {};
  EXPECT_EQ(FailureOf([&] { checkpoint.Read(*checkpoint.Find("a"), 0, bytes); }).code, 8);
}

TEST(TinyCheckpoints, HaveTheTensorsOfTheirArchitecture) {
  for (const auto& [name, n_tensors] :
       {std::pair("phi35-tiny", 27U), std::pair("phi4mini-tiny", 26U)}) {
    const auto no_warning = [](const Warning& w) { ADD_FAILURE() << w.text; };
    const Checkpoint checkpoint = OpenCheckpoint(
        LocateCheckpoint(fmt::format("{}/{}", kTestData, name), no_warning), no_warning);
    EXPECT_EQ(checkpoint.tensors().size(), n_tensors);  // 2 + 6 x 4 layers, + 1 for an own head
    const SourceTensor* embedding = checkpoint.Find("model.embed_tokens.weight");
    ASSERT_NE(embedding, nullptr);
    EXPECT_EQ(embedding->dtype, DType::kBF16);
    EXPECT_EQ(embedding->shape, (std::vector<std::uint64_t>{2112, 256}));
  }
}

}  // namespace
}  // namespace phiq
