// Split files: any part opens all, and parts that do not fit together are refused.
#include <gmock/gmock.h>

#include <string>

#include "formats/gguf/gguf_bytes.h"
#include "formats/gguf/reader.h"

namespace phiq::gguf {
namespace {

using testing::Bytes;
using testing::Folder;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// A part with one tensor; the first also has a key of its own.
std::string Part(std::uint16_t no, std::uint16_t count, std::int32_t n_tensors,
                 std::string_view tensor) {
  Bytes bytes = Bytes::Head(1, no == 0 ? 4 : 3);
  if (no == 0) bytes.Str("k").I32(4).U32(7);
  bytes.Str("split.no")
      .I32(2)
      .U16(no)
      .Str("split.count")
      .I32(2)
      .U16(count)
      .Str("split.tensors.count")
      .I32(5)
      .I32(n_tensors);
  return bytes.TensorInfo(tensor, {2}, 0, 0).PadTo(32).U32(no + 1U).Zeros(28).text();
}

std::string Refusal(const std::filesystem::path& path, ErrorCode code = ErrorCode::kBadData) {
  try {
    File::Open(path, [](const Warning&) {});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(GgufSplitReader, OpensAllPartsByAnyName) {
  const Folder folder;
  const auto first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, 2, "a"));
  const auto second = folder.Write("m-00002-of-00002.gguf", Part(1, 2, 2, "b"));
  for (const auto& path : {first, second}) {
    const File file = File::Open(path, [](const Warning&) {});
    EXPECT_THAT(file.parts(), SizeIs(2));
    ASSERT_THAT(file.tensors(), SizeIs(2));
    EXPECT_THAT(file.metadata(), SizeIs(1));  // without the split keys
    EXPECT_NE(Find(file.metadata(), "k"), nullptr);
    std::uint32_t value = 0;
    file.Read(*file.FindTensor("b"), 0, std::as_writable_bytes(std::span(&value, 1)));
    EXPECT_EQ(value, 2U);
  }
}

TEST(GgufSplitReader, NamesAMissingPart) {
  const Folder folder;
  const auto first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, 2, "a"));
  EXPECT_THAT(Refusal(first, ErrorCode::kInput), HasSubstr("m-00002-of-00002.gguf"));
}

TEST(GgufSplitReader, RefusesPartsThatDisagree) {
  const Folder folder;
  const auto first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, 2, "a"));
  folder.Write("m-00002-of-00002.gguf", Part(0, 2, 2, "b"));
  EXPECT_THAT(
      Refusal(first),
      HasSubstr("part 2: split.no, split.count and split.tensors.count should be 1, 2 and 2"));
  folder.Write("m-00002-of-00002.gguf", Part(1, 3, 2, "b"));
  EXPECT_THAT(Refusal(first), HasSubstr("part 2:"));
  folder.Write("m-00002-of-00002.gguf", Part(1, 2, 3, "b"));
  EXPECT_THAT(Refusal(first), HasSubstr("part 2:"));
  folder.Write("m-00002-of-00002.gguf", Bytes::Head(0, 0).text());
  EXPECT_THAT(Refusal(first), HasSubstr("part 2:"));
}

TEST(GgufSplitReader, RefusesTensorsCountedTwice) {
  const Folder folder;
  const auto first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, 2, "a"));
  folder.Write("m-00002-of-00002.gguf", Part(1, 2, 2, "a"));
  EXPECT_THAT(Refusal(first), HasSubstr("tensor 'a': part 2: the name is in another part too"));
}

TEST(GgufSplitReader, RefusesAWrongTensorCount) {
  const Folder folder;
  const auto first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, 5, "a"));
  folder.Write("m-00002-of-00002.gguf", Part(1, 2, 5, "b"));
  EXPECT_THAT(Refusal(first), HasSubstr("split.tensors.count is 5 but the parts hold 2 tensors"));
}

TEST(GgufSplitReader, WantsTheNameOfItsPart) {
  const Folder folder;
  EXPECT_THAT(Refusal(folder.Write("m.gguf", Part(0, 2, 2, "a"))),
              HasSubstr("should end in -00001-of-00002.gguf"));
  EXPECT_THAT(Refusal(folder.Write("n-00002-of-00002.gguf", Part(0, 2, 2, "a"))),
              HasSubstr("should end in -00001-of-00002.gguf"));
}

TEST(GgufSplitReader, ChecksTheSplitKeys) {
  const Folder folder;
  EXPECT_THAT(Refusal(folder.Write("a", Part(2, 2, 2, "a"))),
              HasSubstr("split.no is 2 but split.count is 2"));
  EXPECT_THAT(Refusal(folder.Write("b", Part(0, 1025, 2, "a"))),
              HasSubstr("split.count is 1025, allowed are 1024 parts"));
  const std::string wrong_type = Bytes::Head(0, 1).Str("split.count").I32(4).U32(2).text();
  EXPECT_THAT(Refusal(folder.Write("c", wrong_type)),
              HasSubstr("'split.count' is u32, allowed is u16"));
  const std::string no_number = Bytes::Head(0, 1).Str("split.count").I32(2).U16(2).text();
  EXPECT_THAT(Refusal(folder.Write("d", no_number)), HasSubstr("without 'split.no'"));
}

TEST(GgufSplitReader, TakesACountOfOneAsWhole) {
  const Folder folder;
  EXPECT_EQ(Refusal(folder.Write("m.gguf", Part(0, 1, 1, "a"))), "no error");
}

}  // namespace
}  // namespace phiq::gguf
