// Headers as the format allows them, and every way to break one.
#include "checkpoint/safetensors_header.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/dtype.h"
#include "checkpoint/scratch.h"

namespace phiq {
namespace {

using testing::HasSubstr;

// As if the file were this header and `data_bytes` more.
std::vector<SourceTensor> Parse(std::string_view header, std::uint64_t data_bytes) {
  return ParseSafetensorsHeader(header, 8 + header.size() + data_bytes, "m.safetensors").tensors;
}

std::string WhyRefused(std::string_view header, std::uint64_t data_bytes) {
  const Failure failure = FailureOf([&] { Parse(header, data_bytes); });
  EXPECT_TRUE(failure.code == 0 || failure.code == 3) << failure.text;
  return failure.text;
}

// A header of one tensor 'a'.
std::string One(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                     offsets);
}

TEST(SafetensorsHeader, ReadsTheGoldenFile) {
  // docs/formats/safetensors.md: 88 header bytes, 4 data bytes, worked by hand
  const std::string header =
      R"({"__metadata__":{"format":"mlx"},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   )";
  ASSERT_EQ(header.size(), 88U);
  Scratch scratch;
  const InputFile file(scratch.Write("m.safetensors", SafetensorsFile(header, "\x01\x02\x03\x04")));
  ASSERT_EQ(file.size(), 100U);
  const auto [tensors, metadata] = ReadSafetensorsHeader(file);
  EXPECT_EQ(metadata, (std::map<std::string, std::string>{{"format", "mlx"}}));
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, DType::kU8);
  EXPECT_EQ(tensors[0].shape, std::vector<std::uint64_t>{4});
  EXPECT_EQ(tensors[0].offset_bytes, 96U);
  EXPECT_EQ(tensors[0].size_bytes, 4U);
}

TEST(SafetensorsHeader, AcceptsTheSmallestFile) {
  Scratch scratch;
  const InputFile file(scratch.Write("m.safetensors", SafetensorsFile("{}", "")));
  EXPECT_TRUE(ReadSafetensorsHeader(file).tensors.empty());
}

TEST(SafetensorsHeader, AcceptsWhatTheFormatAllows) {
  const std::pair<std::string, std::uint64_t> cases[] = {
      {One(R"("F32")", "[]", "[0,4]"), 4},                  // a scalar
      {One(R"("F32")", "[0,3]", "[0,0]"), 0},               // an empty tensor
      {One(R"("F4")", "[2,3]", "[0,3]"), 3},                // 24 bits
      {One(R"("F6_E2M3")", "[4]", "[0,3]"), 3},             // 24 bits
      {One(R"("BF16")", "[1,1,1,1,1,1,1,1]", "[0,2]"), 2},  // rank 8
      {R"({"__metadata__":null})", 0},                      // as mlx writes "none"
      {R"({"__metadata__":{}})", 0},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[[{"y":[1.5,-1,null,"s"]}]]}})",
       1},
      {R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
       5},                                            // F32 at an odd offset
      {One(R"("U8")", "[1]", "[0,1]") + "     ", 1},  // padded with spaces
  };
  for (const auto& [header, data_bytes] : cases)
    EXPECT_EQ(WhyRefused(header, data_bytes), "") << header;
}

TEST(SafetensorsHeader, KnowsEveryDtypeAndItsSize) {
  const std::pair<const char*, std::size_t> kAll[] = {
      {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64}};
  for (const auto& [name, n_bits] : kAll) {
    const std::string header =
        One(fmt::format("\"{}\"", name), "[8]", fmt::format("[0,{}]", n_bits));  // 8 of n bits
    const std::vector<SourceTensor> tensors = Parse(header, n_bits);
    ASSERT_EQ(tensors.size(), 1U);
    EXPECT_EQ(DTypeName(tensors[0].dtype), name);
    EXPECT_EQ(DTypeBits(tensors[0].dtype), n_bits);
  }
}

TEST(SafetensorsHeader, UnescapesNames) {
  const std::string header = R"({"\u00e9\n\"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  EXPECT_EQ(Parse(header, 1)[0].name, "\xC3\xA9\n\"");
}

TEST(SafetensorsHeader, SortsByRangeWithEmptyTensorsFirst) {
  const std::string header = R"({"c":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},)"
                             R"("b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
                             R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string names;
  for (const SourceTensor& tensor : Parse(header, 3)) names += tensor.name;
  EXPECT_EQ(names, "abc");
}

struct Refusal {
  std::string header;
  std::uint64_t data_bytes;
  std::string wanted;  // the whole message after "m.safetensors: "
};

TEST(SafetensorsHeader, SaysWhatIsWrong) {
  const std::string a4 = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const auto two = [&](std::string_view name, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"({{{},"{}":{{"dtype":"U8","shape":{},"data_offsets":{}}}}})", a4, name,
                       shape, offsets);
  };
  const Refusal cases[] = {
      {" {}", 0, "header must begin with '{' at byte 8"},
      {"\xEF\xBB\xBF{}", 0, "header must begin with '{' at byte 8"},
      {"[]", 0, "header must begin with '{' at byte 8"},
      {"null", 0, "header must begin with '{' at byte 8"},
      {"{}\n", 0, "header is padded with something else than spaces at byte 10"},
      {"{} \t ", 0, "header is padded with something else than spaces at byte 11"},
      {std::string("{}\0\0", 4), 0, "not valid UTF-8 JSON: a NUL byte at byte 10"},
      // keys
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
       "duplicate key 'dtype' in JSON"},
      {two("a", "[4]", "[0,4]"), 4, "duplicate key 'a' in JSON"},
      {two("\\u0061", "[4]", "[4,8]"), 8, "duplicate key 'a' in JSON"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "duplicate key '__metadata__' in JSON"},
      {R"({"__metadata__":{"x":"1","x":"1"}})", 0, "duplicate key 'x' in JSON"},
      {R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "empty tensor name"},
      {R"({"x\u0000y":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
       "tensor 'x\\x00y': tensor name with a NUL byte"},
      // metadata
      {R"({"__metadata__":{"x":1}})", 0, "__metadata__ 1: needs an object of strings"},
      {R"({"__metadata__":[]})", 0,
       "__metadata__ is or holds an array: needs an object of strings"},
      {R"({"__metadata__":"x"})", 0, "__metadata__ \"x\": needs an object of strings"},
      {R"({"__metadata__":{"x":null}})", 0, "__metadata__ null: needs an object of strings"},
      {R"({"__metadata__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
       "__metadata__ is or holds an array: needs an object of strings"},
      // entries
      {R"({"a":5})", 0, "tensor 'a': entry 5: needs an object"},
      {R"({"a":null})", 0, "tensor 'a': entry null: needs an object"},
      {R"({"a":[1]})", 0, "tensor 'a': entry is or holds an array: needs an object"},
      {R"({"a":{}})", 0, "tensor 'a': dtype is missing"},
      {R"({"a":{"dtype":"U8"}})", 0, "tensor 'a': shape is missing"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "tensor 'a': data_offsets is missing"},
      {One(R"("BF17")", "[1]", "[0,2]"), 2,
       "tensor 'a': unknown dtype 'BF17' (usable for weights: F32 F16 BF16)"},
      {One(R"("bf16")", "[1]", "[0,2]"), 2,
       "tensor 'a': unknown dtype 'bf16' (usable for weights: F32 F16 BF16)"},
      {One("5", "[1]", "[0,2]"), 2, "tensor 'a': dtype 5: needs a string"},
      {One(R"(["U8"])", "[1]", "[0,1]"), 1,
       "tensor 'a': dtype is or holds an array: needs a string"},
      // shapes
      {One(R"("U8")", "[-1]", "[0,1]"), 1,
       "tensor 'a': shape entry -1: needs an array of whole numbers, 0 or more"},
      {One(R"("U8")", "[1.0]", "[0,1]"), 1,
       "tensor 'a': shape entry 1.0: needs an array of whole numbers, 0 or more"},
      {One(R"("U8")", "[4e0]", "[0,4]"), 4,
       "tensor 'a': shape entry 4e0: needs an array of whole numbers, 0 or more"},
      {One(R"("U8")", "[18446744073709551616]", "[0,1]"), 1,
       "tensor 'a': shape entry 18446744073709551616: needs an array of whole numbers, 0 or more"},
      {One(R"("U8")", "[9223372036854775808]", "[0,1]"), 1,
       "tensor 'a': shape entry 9223372036854775808 is more than 9223372036854775807"},
      {One(R"("U8")", "4", "[0,4]"), 4,
       "tensor 'a': shape 4: needs an array of whole numbers, 0 or more"},
      {One(R"("U8")", "[[4]]", "[0,4]"), 4,
       "tensor 'a': shape is or holds an array: needs an array of whole numbers, 0 or more"},
      {One(R"("U8")", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1,
       "tensor 'a': shape has more than 8 dimensions"},
      {One(R"("U8")", "[4294967296,4294967296]", "[0,1]"), 1,
       "tensor 'a': dtype U8 x shape [4294967296, 4294967296] has more bits than 64-bit numbers "
       "can "
       "count"},
      {One(R"("U8")", "[4294967296,4294967296,0]", "[0,0]"), 0,
       "tensor 'a': dtype U8 x shape [4294967296, 4294967296, 0] has more bits than 64-bit numbers "
       "can count"},
      {One(R"("U64")", "[288230376151711744]", "[0,1]"), 1,  // 2^58 x 64 bits = 2^64
       "tensor 'a': dtype U64 x shape [288230376151711744] has more bits than 64-bit numbers can "
       "count"},
      {One(R"("F4")", "[3]", "[0,2]"), 2,
       "tensor 'a': dtype F4 x shape [3] needs 12 bits, which do not end on a byte boundary"},
      // offsets
      {One(R"("U8")", "[1]", "[-1,1]"), 1,
       "tensor 'a': data_offsets entry -1: needs an array of 2 whole numbers, 0 or more"},
      {One(R"("U8")", "[4]", "[0,4.0]"), 4,
       "tensor 'a': data_offsets entry 4.0: needs an array of 2 whole numbers, 0 or more"},
      {One(R"("U8")", "[1000]", "[0,1e3]"), 1000,
       "tensor 'a': data_offsets entry 1e3: needs an array of 2 whole numbers, 0 or more"},
      {One(R"("U8")", "[1]", R"(["0","1"])"), 1,
       "tensor 'a': data_offsets entry \"0\": needs an array of 2 whole numbers, 0 or more"},
      {One(R"("U8")", "[1]", "[0,18446744073709551616]"), 1,
       "tensor 'a': data_offsets entry 18446744073709551616: needs an array of 2 whole numbers, 0 "
       "or "
       "more"},
      {One(R"("U8")", "[1]", "[0,9007199254740993]"), 1,  // 2^53+1: a double would say 2^53
       "tensor 'a': data_offsets [0, 9007199254740993] hold 9007199254740993 bytes but dtype U8 x "
       "shape [1] needs 1 bytes"},
      {One(R"("U8")", "[1]", "[1]"), 1, "tensor 'a': data_offsets has 1 entries, needs 2"},
      {One(R"("U8")", "[1]", "[]"), 1, "tensor 'a': data_offsets has 0 entries, needs 2"},
      {One(R"("U8")", "[1]", "[0,1,2]"), 1, "tensor 'a': data_offsets has more than 2 entries"},
      {One(R"("U8")", "[1]", "[2,1]"), 1, "tensor 'a': data_offsets [2, 1] end before they begin"},
      {One(R"("BF16")", "[3072]", "[0,20]"), 20,
       "tensor 'a': data_offsets [0, 20] hold 20 bytes but dtype BF16 x shape [3072] needs 6144 "
       "bytes"},
      // ranges
      {One(R"("U8")", "[4]", "[1,5]"), 5,
       "tensor 'a': data_offsets [1, 5] are not contiguous: must begin at 0"},
      {two("b", "[4]", "[5,9]"), 9,
       "tensor 'b': data_offsets [5, 9] are not contiguous: must begin at 4"},
      {two("b", "[4]", "[3,7]"), 7,
       "tensor 'b': data_offsets [3, 7] overlap tensor 'a' at data_offsets [0, 4]"},
      {two("b", "[4]", "[0,4]"), 4,
       "tensor 'b': data_offsets [0, 4] overlap tensor 'a' at data_offsets [0, 4]"},
      {two("b", "[0]", "[2,2]"), 4,
       "tensor 'b': data_offsets [2, 2] overlap tensor 'a' at data_offsets [0, 4]"},
      {One(R"("U8")", "[4]", "[0,4]"), 3,  // 53 header bytes: 8 + 53 + 4
       "tensor 'a': truncated: ends at byte 65 but the file has 64 bytes (incomplete download? "
       "fetch "
       "this shard again)"},
      {One(R"("U8")", "[4]", "[0,4]"), 7,
       "3 trailing bytes after the last tensor, which ends at byte 65"},
      {"{}", 1, "1 trailing bytes after the last tensor, which ends at byte 10"},
  };
  for (const Refusal& c : cases) {
    EXPECT_EQ(WhyRefused(c.header, c.data_bytes), "m.safetensors: " + c.wanted) << c.header;
  }
}

TEST(SafetensorsHeader, NamesTheByteOfBrokenJson) {
  // the byte counts from the start of the file: 8 more than in the header
  const std::pair<std::string, std::string> cases[] = {
      {R"({"a":)", "at byte 13"},     {R"({"__metadata__":{},})", "at byte 27"},
      {R"({}//)", "at byte 10"},      {R"({'a':1})", "at byte 9"},
      {R"({"a":NaN})", "at byte 13"}, {"{\"\xFF\":1}", "at byte 10"},
      {"{\"\x01\":1}", "at byte 10"}, {R"({"\ud800":1})", "at byte 16"},
      {"{}{", "at byte 10"},
  };
  for (const auto& [header, place] : cases) {
    EXPECT_THAT(WhyRefused(header, 0), HasSubstr("not valid UTF-8 JSON")) << header;
    EXPECT_THAT(WhyRefused(header, 0), HasSubstr(place)) << header;
  }
}

TEST(SafetensorsHeader, BoundsNesting) {
  const auto nested = [](std::size_t n) {  // n levels in an entry at level 2
    return R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":)" + std::string(n, '[') +
           std::string(n, ']') + "}}";
  };
  EXPECT_EQ(WhyRefused(nested(6), 1), "");
  EXPECT_EQ(WhyRefused(nested(7), 1),
            "m.safetensors: JSON is nested too deeply, more than 8 levels");
  EXPECT_THAT(WhyRefused(R"({"a":{"x":)" + std::string(5'000'000, '['), 0),
              HasSubstr("nested too deeply"));
}

TEST(SafetensorsHeader, BoundsNamesTensorsAndKeys) {
  const auto named = [](std::size_t n) {
    return fmt::format(R"({{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}})",
                       std::string(n, 'n'));
  };
  EXPECT_EQ(WhyRefused(named(512), 1), "");
  EXPECT_THAT(WhyRefused(named(513), 1),
              HasSubstr("tensor name of 513 bytes, at most 512 are allowed"));

  const auto many = [](std::size_t n) {
    std::string header = "{";
    for (std::size_t i = 0; i < n; ++i) {
      header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                            i == 0 ? "" : ",", i);
    }
    return header + "}";
  };
  EXPECT_EQ(Parse(many(65'536), 0).size(), 65'536U);
  EXPECT_EQ(WhyRefused(many(65'537), 0), "m.safetensors: more than 65536 tensors");

  std::string metadata = R"({"__metadata__":{)";
  for (int i = 0; i < 65'537; ++i) metadata += fmt::format(R"({}"{}":"")", i == 0 ? "" : ",", i);
  EXPECT_EQ(WhyRefused(metadata + "}}", 0), "m.safetensors: more than 65536 keys in one entry");
}

std::string WhyLengthRefused(std::string_view file) {
  return FailureOf([&] {
           SafetensorsHeaderBytes(file.substr(0, kSafetensorsSniffBytes), file.size(), "m");
         })
      .text;
}

TEST(SafetensorsHeader, ChecksTheLengthFieldBeforeUsingIt) {
  EXPECT_EQ(WhyLengthRefused(""), "m: truncated: the file has 0 bytes (download this file again)");
  for (std::size_t n = 1; n < 8; ++n) {
    EXPECT_EQ(
        WhyLengthRefused(std::string(n, 'x')),
        fmt::format("m: truncated: header length needs 8 bytes but the file has {} (download this "
                    "file again)",
                    n));
  }
  EXPECT_EQ(WhyLengthRefused(LengthField(0)), "m: header length 0: needs at least 2 bytes");
  EXPECT_EQ(WhyLengthRefused(LengthField(1) + "{}"), "m: header length 1: needs at least 2 bytes");
  for (const std::uint64_t n :
       {std::uint64_t{100'000'001}, std::uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    EXPECT_EQ(WhyLengthRefused(LengthField(n)),
              fmt::format("m: header length {} is over the limit of 100000000 bytes", n));
  }
  EXPECT_EQ(
      WhyLengthRefused(LengthField(3) + "{}"),
      "m: truncated: header length 3 but only 2 bytes follow it (incomplete download? fetch this "
      "shard again)");
  EXPECT_EQ(SafetensorsHeaderBytes(LengthField(100'000'000), 100'000'008, "m"), 100'000'000U);
}

TEST(SafetensorsHeader, SaysWhatOtherFilesAre) {
  const std::pair<std::string, std::string> cases[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"},
      {"<!DOCTYPE html><html>", "an HTML or XML page"},
      {"\n\n <html><head>", "an HTML or XML page"},
      {std::string("PK\x03\x04\x14\x00\x00\x00\x08\x00", 10), "a zip archive"},
      {std::string("\x80\x02}q\x00(X\x05", 8), "a Python pickle"},
      {"GGUF\x03" + std::string(20, '\x01'), "a GGUF file"},
  };
  for (const auto& [file, what] : cases) {
    EXPECT_THAT(WhyLengthRefused(file), HasSubstr(std::string("looks like ") + what));
  }
  // 0x3C is '<', and a header of 60 bytes is sound
  EXPECT_EQ(WhyLengthRefused(LengthField(0x3C) + std::string(0x3C, ' ')), "");
}

}  // namespace
}  // namespace phiq
