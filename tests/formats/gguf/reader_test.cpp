// The reader against files made by hand, right ones and every kind of wrong one.
#include "formats/gguf/reader.h"

#include <gmock/gmock.h>

#include <limits>
#include <string>

#include "formats/gguf/gguf_bytes.h"

namespace phiq::gguf {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::Folder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Opened {
  File file;
  std::vector<std::string> warnings;
};

Opened Open(const std::filesystem::path& path) {
  Opened opened;
  opened.file =
      File::Open(path, [&](const Warning& warning) { opened.warnings.push_back(warning.text); });
  return opened;
}

// Opens bytes that must be refused; the message without its path.
std::string Refusal(const std::string& content, ErrorCode code = ErrorCode::kBadData) {
  const Folder folder;
  const std::filesystem::path path = folder.Write("x.gguf", content);
  try {
    Open(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    const std::string text = error.what();
    const std::string prefix = path.string() + ": ";
    EXPECT_TRUE(text.starts_with(prefix)) << text;
    return text.substr(prefix.size());
  }
  return "no error";
}

std::vector<std::string> WarningsOf(const std::string& content) {
  const Folder folder;
  return Open(folder.Write("x.gguf", content)).warnings;
}

// Two tensors, F32 [2] of 8 bytes and Q8_0 [2, 32] of 68, with 32-byte places for both.
Bytes TwoTensorHeader() {
  Bytes bytes = Bytes::Head(2, 1);
  bytes.Str("k").I32(4).U32(7);
  bytes.TensorInfo("a", {2}, 0, 0).TensorInfo("b", {32, 2}, 8, 32).PadTo(32);
  return bytes;
}

TEST(GgufReader, ReadsMetadataAndTensors) {
  const Folder folder;
  Bytes bytes = TwoTensorHeader();
  const std::uint64_t data = bytes.text().size();
  bytes.U64(0x1122334455667788).Zeros(24).Raw("Q").Zeros(67).Zeros(28);
  const Opened opened = Open(folder.Write("x.gguf", bytes.text()));
  EXPECT_THAT(opened.warnings, IsEmpty());
  ASSERT_THAT(opened.file.metadata(), SizeIs(1));
  EXPECT_EQ(std::get<std::uint32_t>(*Find(opened.file.metadata(), "k")), 7U);
  ASSERT_THAT(opened.file.tensors(), SizeIs(2));
  const Tensor& b = opened.file.tensors()[1];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.type, GgmlType::kQ8_0);
  EXPECT_THAT(b.shape, ElementsAre(2, 32));
  EXPECT_EQ(b.size_bytes, 68U);
  EXPECT_EQ(b.offset_bytes, data + 32);
  EXPECT_EQ(opened.file.FindTensor("b"), &b);
  EXPECT_EQ(opened.file.FindTensor("c"), nullptr);
  std::uint8_t two[2] = {};
  opened.file.Read(opened.file.tensors()[0], 1, std::as_writable_bytes(std::span(two)));
  EXPECT_EQ(two[0], 0x77);
  EXPECT_EQ(two[1], 0x66);
  std::uint8_t nine[9] = {};
  EXPECT_THROW(
      opened.file.Read(opened.file.tensors()[0], 0, std::as_writable_bytes(std::span(nine))),
      Error);
}

TEST(GgufReader, ReadsEveryValueType) {
  Bytes bytes = Bytes::Head(0, 15);
  bytes.Str("0")
      .I32(0)
      .U8(200)
      .Str("1")
      .I32(1)
      .U8(0xFE)
      .Str("2")
      .I32(2)
      .U16(60000)
      .Str("3")
      .I32(3)
      .U16(0xFFFE);
  bytes.Str("4").I32(4).U32(4000000000).Str("5").I32(5).I32(-2).Str("6").I32(6).U32(0x3F800000);
  bytes.Str("7").I32(7).U8(1).Str("8").I32(8).Str("text").Str("10").I32(10).U64(1ULL << 63);
  bytes.Str("11").I32(11).I64(-2).Str("12").I32(12).U64(0x3FF0000000000000);
  bytes.Str("s").I32(9).I32(8).U64(2).Str("x").Str("").Str("i").I32(9).I32(5).U64(2).I32(1).I32(-1);
  bytes.Str("b").I32(9).I32(7).U64(2).U8(1).U8(0);
  const Folder folder;
  const Opened opened = Open(folder.Write("x.gguf", bytes.text()));
  const Metadata& read = opened.file.metadata();
  EXPECT_EQ(*Find(read, "0"), Value(std::uint8_t{200}));
  EXPECT_EQ(*Find(read, "1"), Value(std::int8_t{-2}));
  EXPECT_EQ(*Find(read, "2"), Value(std::uint16_t{60000}));
  EXPECT_EQ(*Find(read, "3"), Value(std::int16_t{-2}));
  EXPECT_EQ(*Find(read, "4"), Value(std::uint32_t{4000000000}));
  EXPECT_EQ(*Find(read, "5"), Value(std::int32_t{-2}));
  EXPECT_EQ(*Find(read, "6"), Value(1.0F));
  EXPECT_EQ(*Find(read, "7"), Value(true));
  EXPECT_EQ(*Find(read, "8"), Value(std::string("text")));
  EXPECT_EQ(*Find(read, "10"), Value(std::uint64_t{1} << 63));
  EXPECT_EQ(*Find(read, "11"), Value(std::int64_t{-2}));
  EXPECT_EQ(*Find(read, "12"), Value(1.0));
  EXPECT_EQ(*Find(read, "s"), Value(std::vector<std::string>{"x", ""}));
  EXPECT_EQ(*Find(read, "i"), Value(std::vector<std::int32_t>{1, -1}));
  EXPECT_EQ(*Find(read, "b"), Value(std::vector<bool>{true, false}));
}

TEST(GgufReader, ReadsValuesAcrossItsBuffer) {
  const std::string text(200'000, 'x');
  const Folder folder;
  const Opened opened = Open(folder.Write(
      "x.gguf", Bytes::Head(0, 2).Str("a").I32(8).Str(text).Str("b").I32(4).U32(7).text()));
  EXPECT_EQ(std::get<std::string>(*Find(opened.file.metadata(), "a")), text);
  EXPECT_EQ(std::get<std::uint32_t>(*Find(opened.file.metadata(), "b")), 7U);
}

TEST(GgufReader, ReadsVersion2) {
  const Folder folder;
  EXPECT_THAT(
      Open(folder.Write("x.gguf", Bytes().Raw("GGUF").U32(2).U64(0).U64(0).text())).file.tensors(),
      IsEmpty());
}

TEST(GgufReader, RefusesWrongMagicAndShortFiles) {
  const std::string good = Bytes::Head(0, 0).text();
  for (std::size_t i = 0; i < 4; ++i) {
    std::string bad = good;
    bad[i] = 'x';
    EXPECT_THAT(Refusal(bad), HasSubstr("magic")) << i;
  }
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_THAT(Refusal(good.substr(0, n)), HasSubstr("truncated")) << n;
}

TEST(GgufReader, RefusesOtherVersions) {
  const auto version = [](std::uint32_t v) {
    return Bytes().Raw("GGUF").U32(v).U64(0).U64(0).text();
  };
  EXPECT_THAT(Refusal(version(0)), HasSubstr("version 0"));
  EXPECT_THAT(Refusal(version(1), ErrorCode::kUnsupported), HasSubstr("version 1"));
  EXPECT_THAT(Refusal(version(4), ErrorCode::kUnsupported), HasSubstr("version 4"));
  EXPECT_THAT(Refusal(version(0x03000000), ErrorCode::kUnsupported), HasSubstr("byte order"));
}

TEST(GgufReader, BoundsItsCounts) {
  for (const std::uint64_t n : {std::uint64_t{65'537}, std::uint64_t{1} << 63, UINT64_MAX}) {
    EXPECT_THAT(Refusal(Bytes::Head(n, 0).Zeros(4'000'000).text()),
                HasSubstr("tensor count " + std::to_string(n) + ", allowed are 65536"));
    EXPECT_THAT(Refusal(Bytes::Head(0, n).Zeros(4'000'000).text()),
                HasSubstr("key/value count " + std::to_string(n) + ", allowed are 65536"));
  }
  EXPECT_EQ(Refusal(Bytes::Head(0, 1).text()),
            "truncated: key/value count 1 needs 14 bytes or more but 0 are left at byte 24");
  EXPECT_EQ(Refusal(Bytes::Head(1, 0).Zeros(32).text()),
            "truncated: tensor count 1 needs 33 bytes or more but 32 are left at byte 24");
}

TEST(GgufReader, ChecksKeys) {
  const auto one = [](const Bytes& record) {
    return Bytes::Head(0, 1).Raw(record.text()).Zeros(32).text();
  };
  EXPECT_THAT(Refusal(one(Bytes().U64(0))), HasSubstr("key 0 is empty"));
  EXPECT_THAT(Refusal(one(Bytes().U64(UINT64_MAX))),
              HasSubstr("key 0 has length 18446744073709551615"));
  EXPECT_THAT(Refusal(one(Bytes().U64(65'536).Zeros(70'000))),
              HasSubstr("length 65536, allowed are 65535"));
  EXPECT_THAT(Refusal(one(Bytes().U64(100))),
              HasSubstr("key 0 has length 100 but 32 bytes are left"));
  EXPECT_THAT(Refusal(one(Bytes().Str(std::string_view("a\0b", 3)).I32(4).U32(0))),
              HasSubstr("'a\\x00b' has a NUL byte"));
  EXPECT_THAT(Refusal(Bytes::Head(0, 2).Str("a").I32(4).U32(0).Str("a").I32(4).U32(0).text()),
              HasSubstr("duplicate key 'a', key 1"));
}

TEST(GgufReader, ChecksValueTypes) {
  for (const std::int32_t code : {13, -1, std::numeric_limits<std::int32_t>::min()}) {
    EXPECT_THAT(Refusal(Bytes::Head(0, 1).Str("a").I32(code).Zeros(32).text()),
                HasSubstr("key 'a': type " + std::to_string(code) + ", allowed are 0 to 12"));
    EXPECT_THAT(Refusal(Bytes::Head(0, 1).Str("a").I32(9).I32(code).Zeros(32).text()),
                HasSubstr("key 'a': element type " + std::to_string(code)));
  }
  EXPECT_THAT(Refusal(Bytes::Head(0, 1).Str("a").I32(9).I32(9).U64(1).Zeros(32).text()),
              HasSubstr("key 'a': element type array"));
}

TEST(GgufReader, BoundsArraysByTheFile) {
  const auto array = [](std::int32_t element, std::uint64_t count, std::size_t n_bytes) {
    return Bytes::Head(0, 1).Str("a").I32(9).I32(element).U64(count).Zeros(n_bytes).text();
  };
  EXPECT_THAT(Refusal(array(10, 1ULL << 61, 64)),
              HasSubstr("key 'a': array count 2305843009213693952"));
  EXPECT_THAT(Refusal(array(0, (1ULL << 30) + 1, 64)),
              HasSubstr("array count 1073741825, allowed are 1073741824"));
  EXPECT_THAT(Refusal(array(0, 1ULL << 30, 64)),
              HasSubstr("needs 1073741824 bytes or more but 64 are left"));
  EXPECT_THAT(Refusal(array(5, 17, 64)),
              HasSubstr("array count 17 needs 68 bytes or more but 64 are left"));
  EXPECT_THAT(Refusal(array(8, 9, 64)),
              HasSubstr("array count 9 needs 72 bytes or more but 64 are left"));
  EXPECT_THAT(Refusal(array(8, 1ULL << 30, 64)), HasSubstr("truncated"));
}

TEST(GgufReader, BoundsStrings) {
  const auto text = [](std::uint64_t length) {
    return Bytes::Head(0, 1).Str("a").I32(8).U64(length).Zeros(8).text();
  };
  EXPECT_THAT(Refusal(text(9)), HasSubstr("key 'a' has length 9 but 8 bytes are left"));
  EXPECT_THAT(Refusal(text(1ULL << 30)),
              HasSubstr("key 'a' has length 1073741824 but 8 bytes are left"));
  EXPECT_THAT(Refusal(text(UINT64_MAX)), HasSubstr("key 'a' has length 18446744073709551615"));
}

TEST(GgufReader, BoundsTheStringsOfAllArrays) {
  // 2^24 + 1 empty strings in a sparse file: 134 MB of nothing that would be 512 MiB in memory.
  const Folder folder;
  const std::uint64_t count = (1ULL << 24) + 1;
  const std::filesystem::path path =
      folder.Write("x.gguf", Bytes::Head(0, 1).Str("a").I32(9).I32(8).U64(count).text());
  std::filesystem::resize_file(path, 1000 + count * 8);
  EXPECT_THROW(Open(path), Error);
}

TEST(GgufReader, RefusesOddBools) {
  EXPECT_THAT(Refusal(Bytes::Head(0, 1).Str("a").I32(7).U8(2).Zeros(8).text()),
              HasSubstr("key 'a': bool byte 2"));
}

TEST(GgufReader, KeepsStringsThatAreNotUtf8) {
  const Folder folder;
  const Opened opened =
      Open(folder.Write("x.gguf", Bytes::Head(0, 1).Str("a").I32(8).Str("\xFF\xFE").text()));
  EXPECT_EQ(std::get<std::string>(*Find(opened.file.metadata(), "a")), "\xFF\xFE");
}

TEST(GgufReader, ChecksTheAlignment) {
  for (const std::uint32_t alignment : {0U, 3U, 13U, 1U << 21, 1U << 31}) {
    EXPECT_THAT(Refusal(Bytes::Head(0, 1).Str("general.alignment").I32(4).U32(alignment).text()),
                HasSubstr("'general.alignment' is " + std::to_string(alignment)));
  }
  EXPECT_THAT(Refusal(Bytes::Head(0, 1).Str("general.alignment").I32(10).U64(32).text()),
              HasSubstr("'general.alignment' has type u64, allowed is u32"));
}

TEST(GgufReader, ReadsOtherAlignments) {
  Bytes bytes = Bytes::Head(2, 1);
  bytes.Str("general.alignment").I32(4).U32(128);
  bytes.TensorInfo("a", {2}, 0, 0).TensorInfo("b", {2}, 0, 128).PadTo(128);
  const std::size_t data = bytes.text().size();
  const Folder folder;
  const Opened opened = Open(folder.Write("x.gguf", bytes.Zeros(256).text()));
  EXPECT_EQ(opened.file.tensors()[1].offset_bytes, data + 128);
  EXPECT_THAT(opened.warnings, IsEmpty());
}

// A whole file of one tensor info and enough data behind it.
std::string OneTensor(const Bytes& info) {
  return Bytes::Head(1, 0).Raw(info.text()).PadTo(32).Zeros(4096).text();
}

TEST(GgufReader, ChecksTensorNames) {
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo(std::string(64, 'n'), {2}, 0, 0))),
              HasSubstr("name of tensor 0 has length 64, allowed are 63 bytes"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("", {2}, 0, 0))),
              HasSubstr("name of tensor 0 is empty"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo(std::string_view("a\0", 2), {2}, 0, 0))),
              HasSubstr("NUL"));
  EXPECT_THAT(Refusal(Bytes::Head(2, 0)
                          .TensorInfo("a", {2}, 0, 0)
                          .TensorInfo("a", {2}, 0, 32)
                          .PadTo(32)
                          .Zeros(64)
                          .text()),
              HasSubstr("tensor 'a': duplicate name"));
  // Cut inside the 63rd byte of a name.
  EXPECT_THAT(Refusal(Bytes::Head(1, 0).U64(63).Raw(std::string(62, 'n')).text()),
              HasSubstr("truncated: name of tensor 0"));
}

TEST(GgufReader, ChecksDimensions) {
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {1, 1, 1, 1, 1}, 0, 0))),
              HasSubstr("tensor 'a': rank 5"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().Str("a").U32(UINT32_MAX))), HasSubstr("rank 4294967295"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().Str("a").U32(0).I32(0).U64(0))), HasSubstr("rank 0"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {4, 1ULL << 63}, 0, 0))),
              HasSubstr("dimension 1 is -9223372036854775808"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {0}, 0, 0))),
              HasSubstr("dimension 0 is 0"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {1ULL << 32, 1ULL << 31}, 0, 0))),
              HasSubstr("dimensions [2147483648, 4294967296] overflow"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {1ULL << 62}, 0, 0))),
              HasSubstr("overflow"));  // 2^64 bytes
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {1ULL << 32, 1ULL << 32}, 0, 0))),
              HasSubstr("overflow"));
}

TEST(GgufReader, RefusesSizesWhoseSumWraps) {
  const std::uint64_t n = (1ULL << 61) - 16;  // F32: 2^63 - 64 bytes
  const std::string content = Bytes::Head(2, 0)
                                  .TensorInfo("a", {n}, 0, 0)
                                  .TensorInfo("b", {n}, 0, n * 4)
                                  .PadTo(32)
                                  .Zeros(64)
                                  .text();
  EXPECT_THAT(Refusal(content), HasSubstr("tensor 'a': truncated: 9223372036854775744 bytes"));
}

TEST(GgufReader, ChecksTensorTypes) {
  for (const std::int32_t code : {4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, -1}) {
    EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {256}, code, 0))),
                HasSubstr("tensor 'a': unknown tensor type " + std::to_string(code) + " at byte"));
  }
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {256}, 39, 0)), ErrorCode::kUnsupported),
              HasSubstr("tensor 'a': tensor type MXFP4 is not one that phiq reads"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {33}, 8, 0))),
              HasSubstr("tensor 'a': rows of 33 weights, type Q8_0 needs a multiple of 32"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {128, 2}, 12, 0))),
              HasSubstr("type Q4_K needs a multiple of 256"));
}

TEST(GgufReader, KnowsEveryTypeOfGgml) {
  for (const std::int32_t code :
       {9, 15, 16, 17, 18, 19, 21, 22, 24, 25, 26, 27, 28, 29, 34, 35, 39, 40, 41, 42}) {
    EXPECT_NE(Refusal(OneTensor(Bytes().TensorInfo("a", {256}, code, 0)), ErrorCode::kUnsupported),
              "no error")
        << code;
  }
  for (const std::int32_t code : {0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30}) {
    EXPECT_EQ(Refusal(OneTensor(Bytes().TensorInfo("a", {256}, code, 0))), "no error") << code;
  }
}

TEST(GgufReader, WantsTensorsBackToBack) {
  const auto second_at = [](std::uint64_t offset) {
    return Bytes::Head(2, 0)
        .TensorInfo("a", {36}, 0, 0)
        .TensorInfo("b", {2}, 0, offset)
        .PadTo(32)
        .Zeros(4096)
        .text();
  };
  // 36 floats are 144 bytes, so 'b' belongs at 160.
  EXPECT_EQ(Refusal(second_at(160)), "no error");
  EXPECT_EQ(
      Refusal(second_at(128)),
      "tensor 'b': offset 128, expected 160: 'a' before it needs 144 bytes, 128 are reserved");
  EXPECT_THAT(Refusal(second_at(144)), HasSubstr("offset 144, expected 160"));
  EXPECT_THAT(Refusal(second_at(192)), HasSubstr("offset 192, expected 160"));
  EXPECT_THAT(Refusal(second_at(0)), HasSubstr("offset 0, expected 160"));
  EXPECT_THAT(Refusal(second_at(1ULL << 40)), HasSubstr("offset 1099511627776, expected 160"));
  EXPECT_THAT(Refusal(second_at(UINT64_MAX - 31)),
              HasSubstr("offset 18446744073709551584, expected 160"));
  EXPECT_THAT(Refusal(OneTensor(Bytes().TensorInfo("a", {2}, 0, 32))),
              HasSubstr("tensor 'a': offset 32, expected 0"));
}

TEST(GgufReader, NoticesMissingData) {
  const std::string header = TwoTensorHeader().text();
  const auto with_data = [&](std::size_t n) { return header + std::string(n, '\0'); };
  // 'a' takes bytes 0 to 8 of 32, 'b' 32 to 100 of 128.
  EXPECT_EQ(Refusal(with_data(128)), "no error");
  EXPECT_EQ(Refusal(with_data(100)),
            "no error");  // only the padding behind the last tensor is missing
  EXPECT_EQ(Refusal(with_data(99)), "tensor 'b': truncated: 68 bytes from byte " +
                                        std::to_string(header.size() + 32) + " but the file has " +
                                        std::to_string(header.size() + 99) +
                                        " (incomplete download?)");
  EXPECT_THAT(Refusal(with_data(32)), HasSubstr("tensor 'b': truncated"));
  EXPECT_THAT(Refusal(with_data(0)), HasSubstr("tensor 'a': truncated"));
}

TEST(GgufReader, MentionsBytesBehindTheLastTensor) {
  EXPECT_THAT(WarningsOf(TwoTensorHeader().Zeros(128 + 5).text()),
              ElementsAre(HasSubstr("5 bytes after the last tensor")));
}

TEST(GgufReader, MentionsAVocabularyThatDoesNotFit) {
  const auto tokenizer = [](const Bytes& more, std::uint64_t n_more) {
    return Bytes::Head(0, 2 + n_more)
        .Str("tokenizer.ggml.model")
        .I32(8)
        .Str("llama")
        .Str("tokenizer.ggml.tokens")
        .I32(9)
        .I32(8)
        .U64(2)
        .Str("a")
        .Str("b")
        .Raw(more.text())
        .text();
  };
  Bytes scores;
  scores.Str("tokenizer.ggml.scores").I32(9).I32(6).U64(2).U64(0);
  EXPECT_THAT(WarningsOf(tokenizer(scores, 1)), IsEmpty());
  EXPECT_THAT(WarningsOf(tokenizer(Bytes(), 0)),
              ElementsAre(HasSubstr("'tokenizer.ggml.scores' is missing")));
  Bytes short_scores;
  short_scores.Str("tokenizer.ggml.scores").I32(9).I32(6).U64(1).U32(0);
  EXPECT_THAT(WarningsOf(tokenizer(short_scores, 1)),
              ElementsAre(HasSubstr(
                  "'tokenizer.ggml.scores' has 1 entries but 'tokenizer.ggml.tokens' has 2")));
  Bytes types = scores;
  types.Str("tokenizer.ggml.token_type").I32(9).I32(5).U64(2).I32(1).I32(99);
  EXPECT_THAT(WarningsOf(tokenizer(types, 2)),
              ElementsAre(HasSubstr("'tokenizer.ggml.token_type' of token 1 is 99")));
}

TEST(GgufReader, KnowsAGgufFileByItsFirstBytes) {
  const Folder folder;
  EXPECT_TRUE(LooksLikeGguf(folder.Write("a", "GGUF and more")));
  EXPECT_FALSE(LooksLikeGguf(folder.Write("b", "GGU")));
  EXPECT_FALSE(LooksLikeGguf(folder.Write("c", "ggml")));
  EXPECT_FALSE(LooksLikeGguf(folder.path() / "missing"));
  EXPECT_FALSE(LooksLikeGguf(folder.path()));
}

}  // namespace
}  // namespace phiq::gguf
