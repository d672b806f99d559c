// The walk over the wire format: every way a protobuf file can be broken, and what must be
// accepted.
#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>
#include <pthread.h>

#include <string>

#include "formats/onnx/onnx_bytes.h"
#include "formats/onnx/reader.h"

namespace phiq::onnx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using testing::TemporaryFolder;
using testing::Wire;

Folder Open(const std::filesystem::path& path) {
  return Folder::Open(path, [](const Warning& warning) { FAIL() << warning.text; });
}

// Opens bytes that must be refused; the message without its path.
std::string Refusal(const std::string& content) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.Write("x.onnx", content);
  try {
    Open(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadData) << error.what();
    const std::string text = error.what();
    const std::string prefix = path.string() + ": ";
    EXPECT_TRUE(text.starts_with(prefix)) << text;
    return text.substr(prefix.size());
  }
  return "no error";
}

std::string Broken(std::string_view what, int at) {
  return "broken protobuf: " + std::string(what) + " at byte " + std::to_string(at) +
         " (incomplete download, or not an ONNX file?)";
}

// ir_version, 2 bytes before whatever is tried.
std::string After(const Wire& wire) { return Wire().Int(1, 10).Raw(wire.text()).text(); }

TEST(OnnxWire, RefusesMalformedNumbers) {
  const std::string ten(10, '\xFF');
  EXPECT_EQ(Refusal(After(Wire().Tag(5, 0).Raw(ten).Raw("\x01"))),
            Broken("number of more than 10 bytes", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(5, 0).Raw("\x80\x80"))), Broken("number cut short", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(5, 0))), Broken("number cut short", 2));
  EXPECT_EQ(Refusal(After(Wire().Raw("\x88\x80\x80\x80\x80\x00"))),
            Broken("number of more than 5 bytes", 2));
  EXPECT_EQ(Refusal(After(Wire().Varint(1ULL << 34 | 8))), Broken("field tag 17179869192", 2));
}

TEST(OnnxWire, RefusesFieldsThatDoNotFit) {
  EXPECT_EQ(Refusal(After(Wire().Tag(2, 2).Varint(5).Raw("abcd"))),
            Broken("field of 5 bytes, but 4 are left", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(2, 2).Varint(UINT64_MAX).Raw("abcd"))),
            Broken("field of 18446744073709551615 bytes, but 4 are left", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(100, 1).Raw("1234567"))),
            Broken("field of 8 bytes, but 7 are left", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(100, 5).Raw("123"))),
            Broken("field of 4 bytes, but 3 are left", 2));
  // The graph ends inside one of its fields, although the file goes on.
  EXPECT_EQ(Refusal(After(Wire()
                              .Bytes(7,
                                     "\x12\x05"
                                     "ab")
                              .Bytes(2, "after"))),
            Broken("field of 5 bytes, but 2 are left", 4));
}

TEST(OnnxWire, RefusesWhatIsNoField) {
  EXPECT_EQ(Refusal(After(Wire().Tag(0, 0).Varint(1))), Broken("field number 0", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(1, 6))), Broken("wire type 6", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(1, 7))), Broken("wire type 7", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(9, 4))), Broken("end of group 9 without a start", 2));
  EXPECT_EQ(Refusal(After(Wire().Tag(9, 3).Tag(8, 4))),
            Broken("end of group 8 without a start", 3));
  EXPECT_EQ(Refusal(After(Wire().Tag(9, 3).Int(1, 1))), Broken("group 9 is not ended", 5));
  EXPECT_EQ(Refusal(std::string(64, '\0')), Broken("field number 0", 0));
}

TEST(OnnxWire, RefusesPackedNumbersThatAreCut) {
  const auto in_tensor = [](std::uint32_t field, std::string_view bytes) {
    return Wire().Message(7, Wire().Message(5, Wire().Bytes(field, bytes))).text();
  };
  EXPECT_EQ(Refusal(in_tensor(1, "\x01\x80")), Broken("number cut short", 4));  // dims
  EXPECT_EQ(Refusal(in_tensor(4, "12345")),
            Broken("5 packed bytes are no whole numbers of 4 bytes", 4));
  EXPECT_EQ(Refusal(in_tensor(10, "1234567")),
            Broken("7 packed bytes are no whole numbers of 8 bytes", 4));
}

TEST(OnnxWire, WantsAGraph) {
  EXPECT_EQ(Refusal(""), "has no graph (not an ONNX model?)");
  EXPECT_EQ(Refusal(After(Wire())), "has no graph (not an ONNX model?)");
  EXPECT_THAT(Refusal(R"({"model_type": "phi3"})"), HasSubstr("broken protobuf"));
}

// A model whose messages are nested n levels deep, n = 1 + 3k or 2 + 3k: graphs in attributes of
// nodes.
std::string Nested(int n) {
  Wire inner;
  for (int level = n; level >= 1; --level) {
    inner = Wire().Message(level % 3 == 1 ? (level == 1 ? 7 : 6) : level % 3 == 2 ? 1 : 5, inner);
  }
  return inner.text();
}

TEST(OnnxWire, BoundsNesting) {
  EXPECT_EQ(Refusal(Nested(100)), "no error");
  EXPECT_THAT(Refusal(Nested(101)),
              HasSubstr("protobuf messages nested too deeply, 100 levels are allowed at byte"));
  std::string groups;
  for (int i = 0; i < 1'000'000; ++i) groups += Wire().Tag(99, 3).text();
  EXPECT_THAT(Refusal(groups), HasSubstr("nested too deeply"));
}

TEST(OnnxWire, NeedsLittleStack) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, std::size_t{256} << 10), 0);
  pthread_t thread = {};
  const auto open = [](void*) -> void* {
    EXPECT_EQ(Refusal(Nested(100)), "no error");
    EXPECT_THAT(Refusal(Nested(101)), HasSubstr("nested too deeply"));
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, open, nullptr), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(OnnxWire, TakesRepeatedFieldsAsProtobufDoes) {
  const TemporaryFolder folder;
  const Wire first = Wire().Bytes(2, "a").Message(5, testing::Raw("x", 2, {2}, "12"));
  // Dims once packed and once not, the name twice, raw_data twice: the last one counts.
  const Wire second = Wire().Bytes(2, "b").Message(5, Wire()
                                                          .Bytes(1, "\x01\x03")
                                                          .Int(1, 1)
                                                          .Int(2, 2)
                                                          .Bytes(8, "no")
                                                          .Bytes(8, "y")
                                                          .Bytes(9, "no")
                                                          .Bytes(9, "345"));
  const std::string content = Wire()
                                  .Int(1, 7)
                                  .Message(7, first)
                                  .Int(1, 10)
                                  .Message(7, second)
                                  .Bytes(2, "p")
                                  .Bytes(2, "q")
                                  .text();
  const Folder model = Open(folder.Write("x.onnx", content));
  EXPECT_EQ(model.proto().ir_version(), 10);
  EXPECT_EQ(model.proto().producer_name(), "q");
  EXPECT_EQ(model.proto().graph().name(), "b");
  ASSERT_THAT(model.initializers(), SizeIs(2));
  EXPECT_EQ(model.initializers()[0].offset_bytes, content.find("12"));
  EXPECT_EQ(model.initializers()[1].name, "y");
  EXPECT_THAT(model.initializers()[1].dims, ElementsAre(1, 3, 1));
  EXPECT_EQ(model.initializers()[1].offset_bytes, content.find("345"));
  std::string bytes(3, '\0');
  model.Read(model.initializers()[1], 0, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, "345");
}

TEST(OnnxWire, SkipsUnknownFieldsAndGroups) {
  Wire unknown;
  unknown.Int(90, 5).Tag(91, 1).Raw("12345678").Bytes(92, "abc").Tag(93, 5).Raw("1234");
  unknown.Tag(94, 3).Raw(Wire().Int(1, 1).Tag(2, 3).Tag(2, 4).Bytes(3, "x").text()).Tag(94, 4);
  // Known fields of another type are unknown fields too.
  Wire graph = Wire().Bytes(2, "g").Raw(unknown.text()).Int(1, 3).Int(5, 3);
  EXPECT_EQ(Refusal(testing::ModelOf(graph) + unknown.Bytes(1, "a text").Int(7, 3).text()),
            "no error");
}

TEST(OnnxWire, BoundsNodesAndInitializers) {
  // In a file that is large (and sparse), so that the count is what is too much.
  constexpr std::uint64_t kPadding = 600'000'000;
  for (const auto& [field, what] : {std::pair(1U, "nodes"), std::pair(5U, "initializers")}) {
    Wire entries;
    for (int i = 0; i <= 1'000'000; ++i) entries.Bytes(field, "");
    const TemporaryFolder folder;
    const std::filesystem::path path =
        folder.Write("x.onnx", Wire().Message(7, entries).Tag(6, 2).Varint(kPadding).text());
    std::filesystem::resize_file(path, std::filesystem::file_size(path) + kPadding);
    try {
      Open(path);
      FAIL();
    } catch (const Error& error) {
      // The millionth and first entry begins after 4 bytes of the graph's head and 2 for each.
      EXPECT_EQ(std::string(error.what()),
                path.string() + ": more than 1,000,000 " + what + " at byte 2000004");
    }
  }
}

TEST(OnnxWire, BoundsTheMemoryOfSmallParts) {
  std::string names;
  for (int i = 0; i < 2'000'000; ++i) names += Wire().Bytes(1, "").text();
  EXPECT_THAT(
      Refusal(Wire().Message(7, Wire().Bytes(1, names)).text()),
      HasSubstr(
          "too many small parts: more than 199.63 MiB of memory for a file of 3.81 MiB at byte"));
}

TEST(OnnxWire, RefusesFilesOfTwoGigabytes) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.Write("x.onnx", testing::ModelOf(Wire()));
  std::filesystem::resize_file(path, 1ULL << 31);
  try {
    Open(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              path.string() +
                  ": has 2,147,483,648 bytes, an .onnx file must be smaller than 2 GiB "
                  "(weights belong in external data)");
  }
  std::filesystem::resize_file(path, (1ULL << 31) - 1);
  EXPECT_THROW(Open(path), Error);  // field number 0, at once
}

}  // namespace
}  // namespace phiq::onnx
