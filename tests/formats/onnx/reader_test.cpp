// The reader against folders made by hand, right ones and every kind of wrong one.
#include "formats/onnx/reader.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>

#include "formats/onnx/onnx_bytes.h"

namespace phiq::onnx {
namespace {

using testing::Attribute;
using testing::Dims;
using ::testing::ElementsAre;
using testing::External;
using testing::Floats;
using testing::Graph;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Keys;
using testing::ModelOf;
using testing::Node;
using testing::Raw;
using ::testing::SizeIs;
using testing::TemporaryFolder;
using testing::Tensor;
using testing::Wire;

// TensorProto.DataType
constexpr std::int32_t kF32 = 1, kU8 = 2, kI8 = 3, kI64 = 7, kText = 8, kF16 = 10, kBf16 = 16,
                       kU4 = 21, kI4 = 22;

struct Opened {
  Folder model;
  std::vector<std::string> warnings;
};

Opened Open(const std::filesystem::path& path) {
  std::vector<std::string> warnings;
  Folder model =
      Folder::Open(path, [&](const Warning& warning) { warnings.push_back(warning.text); });
  return {std::move(model), std::move(warnings)};
}

// Opens a folder's x.onnx, which must be refused; the message without its path.
std::string Refusal(const TemporaryFolder& folder, ErrorCode code = ErrorCode::kBadData) {
  const std::filesystem::path path = folder.path() / "x.onnx";
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

std::string Refusal(const std::string& content, ErrorCode code = ErrorCode::kBadData) {
  const TemporaryFolder folder;
  folder.Write("x.onnx", content);
  return Refusal(folder, code);
}

std::vector<float> AllRows(const Folder& model, const Weight& weight) {
  std::vector<float> x(static_cast<std::size_t>(weight.n_rows * weight.row_elements));
  RowCodec codec;
  // One by one, so that every row is found at its own place.
  const auto n = static_cast<std::size_t>(weight.row_elements);
  for (std::size_t r = 0; r < weight.n_rows; ++r) {
    model.ReadRows(weight, r, 1, codec, std::span(x).subspan(r * n, n));
  }
  std::vector<float> at_once(x.size());
  model.ReadRows(weight, 0, weight.n_rows, codec, at_once);
  EXPECT_EQ(x, at_once);
  return x;
}

std::string Bytes(std::initializer_list<int> values) {
  std::string bytes;
  for (const int value : values) bytes += static_cast<char>(value);
  return bytes;
}

// Bytes of 4-bit codes 0 1 2 ... 15 0 1 ...: two in a byte, the first in the low nibble.
std::string Nibbles(std::size_t n_codes) {
  std::string bytes;
  for (std::size_t i = 0; i < n_codes; i += 2)
    bytes += static_cast<char>((i % 16) | ((i + 1) % 16) << 4);
  return bytes;
}

// MatMulNBits of K 32 (one block of 32), N 2.
constexpr std::int64_t kK = 32, kN = 2;
struct MatMulNBitsParts {
  std::int64_t k = kK, n = kN, bits = 4, block_size = 32;
  Dims b = {kN, 1, 16}, scales = {kN, 1}, zero_points = {kN, 1};
  std::int32_t b_type = kU8, scales_type = kF32, zero_points_type = kU8;
  bool has_zero_points = false;
  std::vector<Wire> more_attributes;
};

std::string Zeros(const Dims& dims, std::size_t element_bytes = 1) {
  std::size_t n = element_bytes;
  for (const std::int64_t dim : dims) n *= static_cast<std::size_t>(dim);
  return std::string(n, '\0');
}

std::string MatMulNBits(const MatMulNBitsParts& parts) {
  std::vector<Wire> attributes = {Attribute("K", parts.k), Attribute("N", parts.n),
                                  Attribute("bits", parts.bits),
                                  Attribute("block_size", parts.block_size)};
  attributes.insert(attributes.end(), parts.more_attributes.begin(), parts.more_attributes.end());
  Graph graph;
  graph.inputs = {"x"};
  graph.initializers = {Raw("B", parts.b_type, parts.b, Zeros(parts.b)),
                        Raw("S", parts.scales_type, parts.scales,
                            Zeros(parts.scales, parts.scales_type == kF32 ? 4 : 2)),
                        Raw("Z", parts.zero_points_type, parts.zero_points,
                            Zeros(parts.zero_points, parts.zero_points_type == kF32 ? 4 : 1))};
  graph.nodes = {Node("MatMulNBits", "/model/layers.0/attn/o_proj/MatMul_Q4",
                      {"x", "B", "S", parts.has_zero_points ? "Z" : ""}, {"y"}, attributes)};
  return ModelOf(graph);
}

TEST(OnnxReader, ReadsInlineTypedAndExternalInitializers) {
  const TemporaryFolder folder;
  folder.Write("d/x.data", "...1234");
  Graph graph;
  graph.initializers = {
      Raw("raw", kF16, {1, 2}, "abcd"),
      External("outside", kU8, {4},
               {{"location", "d/x.data"}, {"offset", "3"}, {"length", "4"}, {"checksum", "?"}}),
      External("whole", kI8, {7}, {{"location", "d/x.data"}}),
      Tensor("floats", kF32, {2}).Bytes(4, Floats({1.0F, -2.0F})),
      Tensor("halves", kF16, {1}).Int(5, 0x3C00),
      Tensor("codes", kI8, {2}).Int(5, -1).Int(5, 2),
      Tensor("longs", kI64, {}).Int(7, 258),
      Raw("nothing", kF32, {0, 4}, ""),
      Raw("nibbles", kI4, {3}, "ab"),
      Tensor("text", kText, {2}).Bytes(6, "a").Bytes(6, "b"),
  };
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  const Folder& model = opened.model;
  EXPECT_THAT(opened.warnings, IsEmpty());
  ASSERT_THAT(model.initializers(), SizeIs(10));
  ASSERT_THAT(model.files(), SizeIs(2));
  EXPECT_EQ(model.files()[1].path(), folder.path() / "d/x.data");
  const auto bytes_of = [&](std::string_view name) {
    const Initializer& initializer = *model.Find(name);
    std::string bytes(initializer.size_bytes, '\0');
    model.Read(initializer, 0, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  };
  EXPECT_EQ(bytes_of("raw"), "abcd");
  EXPECT_EQ(bytes_of("outside"), "1234");
  EXPECT_EQ(bytes_of("whole"), "...1234");
  EXPECT_EQ(bytes_of("floats"), Floats({1.0F, -2.0F}));
  EXPECT_EQ(bytes_of("halves"), Bytes({0x00, 0x3C}));
  EXPECT_EQ(bytes_of("codes"), Bytes({0xFF, 2}));
  EXPECT_EQ(bytes_of("longs"), Bytes({2, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(bytes_of("nothing"), "");
  EXPECT_EQ(bytes_of("nibbles"), "ab");
  EXPECT_EQ(model.Find("outside")->file, 1U);
  EXPECT_EQ(model.Find("outside")->offset_bytes, 3U);
  EXPECT_THAT(model.Find("raw")->dims, ElementsAre(1, 2));
  EXPECT_EQ(model.Find("missing"), nullptr);
  std::string two(2, '\0');
  model.Read(*model.Find("outside"), 1, std::as_writable_bytes(std::span(two)));
  EXPECT_EQ(two, "23");
  EXPECT_THROW(model.Read(*model.Find("outside"), 3, std::as_writable_bytes(std::span(two))),
               Error);
  EXPECT_THROW(
      model.Read(*model.Find("outside"), UINT64_MAX, std::as_writable_bytes(std::span(two))),
      Error);
}

TEST(OnnxReader, FindsTheModelInAFolder) {
  const TemporaryFolder folder;
  EXPECT_THROW(Open(folder.path()), Error);
  folder.Write("model.onnx", ModelOf(Graph()));
  EXPECT_EQ(Open(folder.path()).model.files()[0].path(), folder.path() / "model.onnx");
  folder.Write("phi.onnx", ModelOf(Graph()));
  folder.Write("genai_config.json", R"({"model": {"decoder": {"filename": "phi.onnx"}}})");
  EXPECT_EQ(Open(folder.path()).model.files()[0].path(), folder.path() / "phi.onnx");
  folder.Write("genai_config.json", R"({"model": {"decoder": {"filename": "../phi.onnx"}}})");
  try {
    Open(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              (folder.path() / "genai_config.json").string() +
                  ": model.decoder.filename '../phi.onnx' leaves the model's folder with "
                  "'..'");
  }
}

TEST(OnnxReader, KnowsOnnxFoldersFromCheckpoints) {
  const TemporaryFolder folder;
  EXPECT_FALSE(LooksLikeOnnx(folder.path()));
  EXPECT_FALSE(LooksLikeOnnx(folder.path() / "missing"));
  EXPECT_TRUE(LooksLikeOnnx(folder.path() / "missing.onnx"));
  folder.Write("config.json", "{}");
  EXPECT_FALSE(LooksLikeOnnx(folder.path()));
  folder.Write("genai_config.json", "{}");
  EXPECT_TRUE(LooksLikeOnnx(folder.path()));
  folder.Write("model.safetensors", "");
  EXPECT_FALSE(LooksLikeOnnx(folder.path()));
}

// --- weights ---

TEST(OnnxReader, DecodesMatMulNBits) {
  // Rows of 40 weights: a block of 32 and one of 8, padded. Codes run 0 to 15 again and again.
  Graph graph;
  graph.inputs = {"x"};
  graph.outputs = {"y"};
  std::string codes;
  for (int row = 0; row < 2; ++row) codes += Nibbles(32) + Nibbles(8) + std::string(12, '\x77');
  graph.initializers = {Raw("B", kU8, {2, 2, 16}, codes),
                        Raw("S", kF32, {2, 2}, Floats({1, 0.5F, -2, 4})),
                        Raw("Z", kU8, {2, 1}, Bytes({0x13, 0x0F}))};
  const std::vector<Wire> attributes = {Attribute("K", 40), Attribute("N", 2), Attribute("bits", 4),
                                        Attribute("block_size", 32)};
  const auto weight_of = [&](std::string_view zero_points) {
    graph.nodes = {Node("MatMulNBits", "/model/layers.1/mlp/up_proj/MatMul_Q4",
                        {"x", "B", "S", zero_points}, {"y"}, attributes)};
    const TemporaryFolder folder;
    const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
    EXPECT_THAT(opened.warnings, IsEmpty());
    EXPECT_THAT(opened.model.FindGraphProblems(), IsEmpty());
    EXPECT_THAT(opened.model.weights(), SizeIs(1));
    return std::pair(opened.model.weights()[0], AllRows(opened.model, opened.model.weights()[0]));
  };
  const auto [symmetric, x] = weight_of("");
  EXPECT_EQ(symmetric.name, "model.layers.1.mlp.up_proj.MatMul.weight");
  EXPECT_EQ(symmetric.shared_name, "");
  EXPECT_EQ(symmetric.encoding,
            Encoding(GroupEncoding{Code::kU4, 32, ScaleType::kF32, Offset::kMiddle}));
  EXPECT_EQ(symmetric.n_rows, 2U);
  EXPECT_EQ(symmetric.row_elements, 40U);
  EXPECT_FALSE(symmetric.transposed);
  EXPECT_THAT(symmetric.arrays, ElementsAre(std::optional<std::size_t>(0),
                                            std::optional<std::size_t>(1), std::nullopt));
  ASSERT_THAT(x, SizeIs(80));
  // Code 3 of the first block of each row, code 5 of the second.
  EXPECT_EQ(x[3], 1.0F * (3 - 8));
  EXPECT_EQ(x[31], 1.0F * (15 - 8));
  EXPECT_EQ(x[37], 0.5F * (5 - 8));
  EXPECT_EQ(x[43], -2.0F * (3 - 8));
  EXPECT_EQ(x[77], 4.0F * (5 - 8));

  const auto [affine, y] = weight_of("Z");  // zero points 3, 1; 15, 0
  EXPECT_EQ(affine.encoding,
            Encoding(GroupEncoding{Code::kU4, 32, ScaleType::kF32, Offset::kZeroPoint}));
  EXPECT_EQ(y[3], 0.0F);
  EXPECT_EQ(y[37], 0.5F * (5 - 1));
  EXPECT_EQ(y[43], -2.0F * (3 - 15));
  EXPECT_EQ(y[77], 4.0F * 5);
}

TEST(OnnxReader, TakesFlatScalesAndHalves) {
  MatMulNBitsParts parts;
  parts.scales = {2};
  parts.scales_type = kF16;
  parts.zero_points = {2};
  parts.has_zero_points = true;
  parts.bits = 8;
  parts.b = {2, 1, 32};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", MatMulNBits(parts)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  const GroupEncoding wanted = {Code::kU8, 32, ScaleType::kF16, Offset::kZeroPoint};
  EXPECT_EQ(opened.model.weights()[0].encoding, Encoding(wanted));
}

TEST(OnnxReader, RefusesImpossibleMatMulNBits) {
  EXPECT_EQ(Refusal(MatMulNBits({})), "no error");
  const auto refused = [](auto change, ErrorCode code = ErrorCode::kBadData) {
    MatMulNBitsParts parts;
    change(parts);
    const std::string text = Refusal(MatMulNBits(parts), code);
    const std::string prefix = "node '/model/layers.0/attn/o_proj/MatMul_Q4': MatMulNBits ";
    EXPECT_TRUE(text.starts_with(prefix)) << text;
    return text.substr(std::min(prefix.size(), text.size()));
  };
  using P = MatMulNBitsParts;
  for (const std::int64_t bad :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 31, INT64_MIN, INT64_MAX}) {
    const std::string n = std::to_string(bad);
    EXPECT_EQ(refused([&](P& p) { p.k = bad; }), "has K " + n + ", allowed are 1 to 2147483647");
    EXPECT_EQ(refused([&](P& p) { p.n = bad; }), "has N " + n + ", allowed are 1 to 2147483647");
    EXPECT_EQ(refused([&](P& p) { p.bits = bad; }), "has bits " + n + ", allowed are 4 and 8");
    EXPECT_EQ(refused([&](P& p) { p.block_size = bad; }),
              "has block_size " + n + ", allowed are powers of two from 16 to 65536");
  }
  EXPECT_THAT(refused([](P& p) { p.block_size = 48; }), HasSubstr("block_size 48"));
  EXPECT_THAT(refused([](P& p) { p.block_size = 8; }), HasSubstr("block_size 8"));
  EXPECT_THAT(refused([](P& p) { p.block_size = 131072; }), HasSubstr("block_size 131072"));
  EXPECT_EQ(refused([](P& p) { p.bits = 2; }, ErrorCode::kUnsupported),
            "has bits 2, phiq does 4 and 8");
  EXPECT_EQ(refused([](P& p) { p.k = 33; }),
            "input B 'B' has dims [2, 1, 16] (32 bytes), needs [2, 2, 16]");
  EXPECT_EQ(refused([](P& p) { p.k = p.n = INT32_MAX; }),
            "input B 'B' has dims [2, 1, 16] (32 bytes), needs [2147483647, 67108864, 16]");
  EXPECT_EQ(refused([](P& p) {
              p.b = {1, 2, 16};
            }),
            "input B 'B' has dims [1, 2, 16] (32 bytes), needs [2, 1, 16]");
  EXPECT_EQ(refused([](P& p) { p.b_type = kI8; }), "input B 'B' is INT8, allowed is UINT8");
  EXPECT_EQ(refused([](P& p) {
              p.scales = {2, 2};
            }),
            "input scales 'S' has dims [2, 2] (16 bytes), needs [2, 1]");
  EXPECT_EQ(refused([](P& p) { p.scales_type = 4; }),
            "input scales 'S' is UINT16, allowed is FLOAT");
  EXPECT_EQ(refused([](P& p) {
              p.has_zero_points = true;
              p.zero_points = {1, 1};
            }),
            "input zero_points 'Z' has dims [1, 1] (1 bytes), needs [2, 1]");
  EXPECT_EQ(refused(
                [](P& p) {
                  p.has_zero_points = true;
                  p.zero_points_type = kF32;
                },
                ErrorCode::kUnsupported),
            "has float zero_points");
  EXPECT_EQ(refused([](P& p) { p.more_attributes = {Attribute("K", 32)}; }),
            "has two attributes 'K'");
  EXPECT_EQ(refused([](P& p) { p.more_attributes = {Attribute("weight_prepacked", 1)}; },
                    ErrorCode::kUnsupported),
            "has prepacked weights");
  Graph graph;
  graph.initializers = {Raw("B", kU8, {2, 1, 16}, std::string(32, '\0')),
                        Raw("S", kF32, {2, 1}, std::string(8, '\0'))};
  graph.nodes = {
      Node("MatMulNBits", "m", {"x", "B", "S"}, {"y"}, {Attribute("K", 32), Attribute("N", 2)})};
  EXPECT_EQ(Refusal(ModelOf(graph)), "node 'm': MatMulNBits has no attribute 'block_size'");
  graph.nodes = {
      Node("MatMulNBits", "m", {"x", "B", "S"}, {"y"}, {Attribute("K", {32}), Attribute("N", 2)})};
  EXPECT_EQ(Refusal(ModelOf(graph)), "node 'm': MatMulNBits attribute 'K' is not an integer");
}

TEST(OnnxReader, DecodesTransposedFloats) {
  Graph graph;
  graph.inputs = {"x"};
  graph.initializers = {Raw("w", kF32, {2, 3}, Floats({1, 2, 3, 4, 5, 6}))};
  graph.nodes = {Node("MatMul", "/lm_head/MatMul", {"x", "w"}, {"y"})};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  const Weight& weight = opened.model.weights()[0];
  EXPECT_EQ(weight.name, "lm_head.MatMul.weight");
  EXPECT_EQ(weight.encoding, Encoding(GgmlType::kF32));
  EXPECT_EQ(weight.n_rows, 3U);
  EXPECT_EQ(weight.row_elements, 2U);
  EXPECT_TRUE(weight.transposed);
  EXPECT_THAT(AllRows(opened.model, weight), ElementsAre(1, 4, 2, 5, 3, 6));
}

TEST(OnnxReader, SharesAHeadWithItsEmbedding) {
  const Wire transpose =
      Node("Transpose", "/model/embed_tokens/Transpose", {"w"}, {"t"}, {Attribute("perm", {1, 0})});
  const Wire gather = Node("Gather", "/model/embed_tokens/Gather", {"t", "ids"}, {"e"});
  const Wire head = Node("MatMul", "/lm_head/MatMul", {"e", "w"}, {"y"});
  for (const std::vector<Wire>& nodes :
       {std::vector{transpose, gather, head}, std::vector{head, transpose, gather}}) {
    Graph graph;
    graph.initializers = {
        Raw("w", kBf16, {2, 3}, Bytes({0x80, 0x3F, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0}))};
    graph.nodes = nodes;
    const TemporaryFolder folder;
    const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
    ASSERT_THAT(opened.model.weights(), SizeIs(1));
    EXPECT_EQ(opened.model.weights()[0].name, "lm_head.MatMul.weight");
    EXPECT_EQ(opened.model.weights()[0].shared_name, "model.embed_tokens.weight");
    EXPECT_TRUE(opened.model.weights()[0].transposed);
    EXPECT_THAT(AllRows(opened.model, opened.model.weights()[0]), ElementsAre(1, 0, 2, 0, 0, 0));
  }
  // [V, H] stored once, the other way around.
  Graph graph;
  graph.initializers = {Raw("w", kF32, {3, 1}, Floats({1, 2, 3}))};
  graph.nodes = {Node("Gather", "/model/embed_tokens/Gather", {"w", "ids"}, {"e"}), transpose,
                 Node("MatMul", "/lm_head/MatMul", {"e", "t"}, {"y"})};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  EXPECT_EQ(opened.model.weights()[0].name, "lm_head.MatMul.weight");
  EXPECT_EQ(opened.model.weights()[0].n_rows, 3U);
  EXPECT_FALSE(opened.model.weights()[0].transposed);
}

TEST(OnnxReader, SharesAQuantizedHeadWithItsEmbedding) {
  Graph graph;
  graph.initializers = {Raw("B", kU8, {2, 2, 16}, std::string(64, '\0')),
                        Raw("S", kF32, {2, 2}, std::string(16, '\0'))};
  const auto nodes = [](std::int64_t block_size) {
    return std::vector{
        Node("Reshape", "/model/embed_tokens/Reshape", {"B", "shape"}, {"r"}),
        Node("GatherBlockQuantized", "/model/embed_tokens/GatherBlockQuantized", {"r", "ids", "S"},
             {"e"}, {Attribute("bits", 4), Attribute("block_size", block_size)}),
        Node("MatMulNBits", "/lm_head/MatMul_Q4", {"e", "B", "S"}, {"y"},
             {Attribute("K", 64), Attribute("N", 2), Attribute("block_size", 32)})};
  };
  graph.nodes = nodes(32);
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  EXPECT_EQ(opened.model.weights()[0].name, "lm_head.MatMul.weight");
  EXPECT_EQ(opened.model.weights()[0].shared_name, "model.embed_tokens.weight");
  EXPECT_EQ(opened.model.weights()[0].row_elements, 64U);
  graph.nodes = nodes(64);
  EXPECT_EQ(Refusal(ModelOf(graph)),
            "node '/model/embed_tokens/GatherBlockQuantized': GatherBlockQuantized input scales "
            "'S' has dims [2, 2] (16 "
            "bytes), needs [2, 1]");
}

TEST(OnnxReader, DecodesSignedNibbles) {
  Graph graph;
  graph.initializers = {
      Raw("model.embed_tokens.weight_Q4", kI4, {2, 16}, Nibbles(16) + Nibbles(16)),
      Raw("S", kF32, {2, 1}, Floats({1, 2}))};
  graph.nodes = {Node("GatherBlockQuantized", "/model/embed_tokens/Gather_Q4",
                      {"model.embed_tokens.weight_Q4", "i", "S"}, {"e"},
                      {Attribute("block_size", 16)})};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  EXPECT_EQ(opened.model.weights()[0].name, "model.embed_tokens.weight");
  EXPECT_THAT(AllRows(opened.model, opened.model.weights()[0]),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1,  //
                          0, 2, 4, 6, 8, 10, 12, 14, -16, -14, -12, -10, -8, -6, -4, -2));
}

TEST(OnnxReader, DecodesEmbeddingsWhoseLastBlockIsShort) {
  // 20 codes a row, blocks of 16, no padding: unlike MatMulNBits.
  Graph graph;
  graph.initializers = {Raw("w", kU8, {2, 10}, Nibbles(20) + Nibbles(20)),
                        Raw("S", kF32, {2, 2}, Floats({1, 2, 3, 4})),
                        Raw("Z", kU8, {2, 1}, Bytes({0x10, 0x32}))};
  graph.nodes = {Node("GatherBlockQuantized", "/model/embed_tokens/Gather_Q4", {"w", "i", "S", "Z"},
                      {"e"}, {Attribute("block_size", 16), Attribute("bits", 4)})};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  const std::vector<float> x = AllRows(opened.model, opened.model.weights()[0]);
  ASSERT_THAT(x, SizeIs(40));
  EXPECT_EQ(x[15], 15.0F);                 // zero point 0
  EXPECT_EQ(x[16], 2.0F * (0 - 1));        // zero point 1
  EXPECT_EQ(x[20 + 15], 3.0F * (15 - 2));  // zero point 2
  EXPECT_EQ(x[20 + 19], 4.0F * (3 - 3));   // zero point 3
}

TEST(OnnxReader, RefusesEmbeddingsItCannotDecode) {
  const auto refusal = [](std::int32_t type, const Dims& dims, std::size_t n_bytes, Dims scales,
                          std::string_view zero_points, std::vector<Wire> attributes,
                          ErrorCode code) {
    Graph graph;
    attributes.push_back(Attribute("block_size", 16));
    graph.initializers = {Raw("w", type, dims, std::string(n_bytes, '\0')),
                          Raw("S", kF32, scales, Zeros(scales, 4)),
                          Raw("Z", kU4, {1, 1}, Bytes({0}))};
    graph.nodes = {
        Node("GatherBlockQuantized", "g", {"w", "i", "S", zero_points}, {"e"}, attributes)};
    return Refusal(ModelOf(graph), code);
  };
  const std::string start = "node 'g': GatherBlockQuantized ";
  EXPECT_EQ(refusal(kU4, {1, 16}, 8, {1, 1}, "", {}, ErrorCode::kUnsupported),
            start + "has UINT4 data without zero_points");
  EXPECT_EQ(refusal(kU4, {1, 16}, 8, {1, 1}, "Z", {}, ErrorCode::kUnsupported),
            start + "has rows of an odd number of 4-bit zero points");
  EXPECT_EQ(refusal(kI4, {2, 15}, 15, {2, 1}, "", {}, ErrorCode::kUnsupported),
            start + "has rows of an odd number of 4-bit codes");
  EXPECT_EQ(refusal(kI4, {1, 16}, 8, {1, 1}, "", {Attribute("bits", 8)}, ErrorCode::kBadData),
            start + "has bits 8 but data of INT4");
  EXPECT_EQ(refusal(kI4, {1, 32}, 16, {1, 1}, "", {}, ErrorCode::kBadData),
            start + "input scales 'S' has dims [1, 1] (4 bytes), needs [1, 2]");
  EXPECT_EQ(refusal(kU8, {16}, 16, {1, 1}, "", {}, ErrorCode::kBadData),
            start + "input data 'w' has dims [16], needs two");
  EXPECT_EQ(refusal(kI8, {1, 16}, 16, {1, 1}, "", {}, ErrorCode::kBadData),
            start + "input data 'w' is INT8, allowed are UINT8, INT4 and UINT4");
  EXPECT_EQ(
      refusal(kU8, {1, 8}, 8, {1, 1}, "", {Attribute("gather_axis", 1)}, ErrorCode::kUnsupported),
      start + "gathers along or quantizes another axis than phiq does");
}

// DynamicQuantizeLinear, MatMulInteger, Cast, Mul, Mul: X [1, 2] times W [2, 3].
Graph IntegerGraph(std::string_view zero_point = "") {
  Graph graph;
  graph.inputs = {"x"};
  graph.initializers = {
      Raw("lm_head.MatMul.weight_quantized", kI8, {2, 3}, Bytes({1, -2, 3, 4, 127, -128})),
      Raw("lm_head.MatMul.weight_scale", kF32, {3}, Floats({1, 0.5F, 2})),
      Raw("zero", kI8, {}, Bytes({0})), Raw("one", kI8, {}, Bytes({1}))};
  graph.nodes = {
      Node("DynamicQuantizeLinear", "/q", {"x"}, {"xq", "xs", "xz"}),
      Node("MatMulInteger", "/lm_head/MatMul_quant",
           {"xq", "lm_head.MatMul.weight_quantized", "xz", zero_point}, {"i"}),
      Node("Cast", "/lm_head/Cast", {"i"}, {"f"}),
      Node("Mul", "/lm_head/scales", {"xs", "lm_head.MatMul.weight_scale"}, {"s"}),
      Node("Mul", "/lm_head/Mul", {"f", "s"}, {"logits"}),
  };
  graph.outputs = {"logits"};
  return graph;
}

TEST(OnnxReader, DecodesMatMulInteger) {
  for (const std::string_view zero_point : {"", "zero"}) {
    const TemporaryFolder folder;
    const Opened opened = Open(folder.Write("x.onnx", ModelOf(IntegerGraph(zero_point))));
    EXPECT_THAT(opened.warnings, IsEmpty());
    ASSERT_THAT(opened.model.weights(), SizeIs(1));
    const Weight& weight = opened.model.weights()[0];
    EXPECT_EQ(weight.name, "lm_head.MatMul.weight");
    EXPECT_EQ(weight.encoding,
              Encoding(GroupEncoding{Code::kI8, 0, ScaleType::kF32, Offset::kNone}));
    EXPECT_TRUE(weight.transposed);
    EXPECT_EQ(weight.n_rows, 3U);
    EXPECT_THAT(AllRows(opened.model, weight), ElementsAre(1, 4, -1, 63.5F, 6, -256));
    EXPECT_EQ(opened.model.SizeBytes(weight), 6U + 12U);
  }
}

TEST(OnnxReader, FindsTheScaleInEitherMul) {
  Graph graph = IntegerGraph();
  graph.nodes[3] = Node("Mul", "/lm_head/Mul_x", {"xs", "f"}, {"s"});
  graph.nodes[4] = Node("Mul", "/lm_head/Mul_w", {"lm_head.MatMul.weight_scale", "s"}, {"logits"});
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(1));
  EXPECT_EQ(opened.model.weights()[0].arrays[1], 1U);
}

TEST(OnnxReader, RefusesMatMulIntegerWithoutItsScale) {
  const std::string start = "node '/lm_head/MatMul_quant': MatMulInteger ";
  EXPECT_EQ(Refusal(ModelOf(IntegerGraph("one")), ErrorCode::kUnsupported),
            start + "has zero points of B other than 0");
  Graph graph = IntegerGraph();
  graph.nodes.resize(3);
  EXPECT_EQ(Refusal(ModelOf(graph), ErrorCode::kUnsupported),
            start + "has no scale of 'lm_head.MatMul.weight_quantized' in a Mul after it");
  graph = IntegerGraph();
  graph.initializers[1] = Raw("lm_head.MatMul.weight_scale", kF32, {2}, Floats({1, 2}));
  EXPECT_EQ(Refusal(ModelOf(graph)),
            start + "input scales 'lm_head.MatMul.weight_scale' has dims [2] (8 bytes), needs [3]");
  graph.initializers[1] = Raw("lm_head.MatMul.weight_scale", kF32, {}, Floats({1}));
  EXPECT_EQ(Refusal(ModelOf(graph), ErrorCode::kUnsupported),
            start + "has one scale for all of its weights");
}

TEST(OnnxReader, TellsWeightsFromTablesAndConstants) {
  Graph graph;
  graph.inputs = {"x", "r", "ids", "condition"};
  const Wire constant =
      Node("Constant", "/large/cos_cache/Constant", {}, {"cos_cache_large"},
           {Wire().Bytes(1, "value").Message(5, Raw("", kF32, {1, 2}, Floats({1, 2}))).Int(20, 4)});
  graph.initializers = {Raw("n1", kF32, {2}, Floats({1, 2})), Raw("n2", kF16, {1}, "ab"),
                        Raw("sin_cache", kF32, {1100, 1}, std::string(4400, '\0')),
                        Raw("index", kI64, {}, std::string(8, '\0')),
                        Raw("big", kF32, {1025}, std::string(4100, '\0'))};
  graph.nodes = {
      Node("SimplifiedLayerNormalization", "/n1", {"x", "n1"}, {"a"}),
      Node("SkipSimplifiedLayerNormalization", "/n2", {"a", "r", "n2"}, {"b"}),
      Node("Gather", "/model/mask/Gather", {"x", "index"}, {"c"}),
      Node("MatMul", "/model/scores/MatMul", {"a", "b"}, {"d"}),
      Node("Gather", "/model/tables/Gather", {"sin_cache", "ids"}, {"e"}),
      Node("If", "/if", {"condition"}, {"cos_cache"},
           {Wire().Bytes(1, "then_branch").Message(6, Wire().Message(1, constant)).Int(20, 5)}),
  };
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(2));
  EXPECT_EQ(opened.model.weights()[0].name, "n1");
  EXPECT_EQ(opened.model.weights()[0].n_rows, 1U);
  EXPECT_EQ(opened.model.weights()[0].row_elements, 2U);
  EXPECT_EQ(opened.model.weights()[1].name, "n2");
  EXPECT_EQ(opened.model.weights()[1].encoding, Encoding(GgmlType::kF16));
  ASSERT_THAT(opened.model.tables(), SizeIs(2));
  EXPECT_EQ(opened.model.tables()[0].name, "sin_cache");
  const Table& table = opened.model.tables()[1];
  EXPECT_EQ(table.name, "cos_cache_large");
  EXPECT_THAT(table.dims, ElementsAre(1, 2));
  std::string bytes(4, '\0');
  opened.model.Read(table, 4, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, Floats({2}));
  EXPECT_THAT(opened.warnings, ElementsAre((folder.path() / "x.onnx").string() +
                                           ": 1 initializer belongs to no weight that phiq knows, "
                                           "the largest is 'big' of 4100 bytes"));
}

TEST(OnnxReader, NamesWeightsOfUnnamedNodesByTheirInitializers) {
  Graph graph;
  graph.initializers = {Raw("first.weight_Q4G32", kU8, {2, 1, 16}, std::string(32, '\0')),
                        Raw("S", kF32, {2, 1}, std::string(8, '\0')),
                        Raw("second_weight", kF32, {1, 1}, Floats({1}))};
  graph.nodes = {Node("MatMulNBits", "node_1", {"x", "first.weight_Q4G32", "S"}, {"y"},
                      {Attribute("K", 32), Attribute("N", 2), Attribute("block_size", 32)}),
                 Node("MatMul", "", {"y", "second_weight"}, {"z"})};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  ASSERT_THAT(opened.model.weights(), SizeIs(2));
  EXPECT_EQ(opened.model.weights()[0].name, "first.weight");
  EXPECT_EQ(opened.model.weights()[1].name, "second_weight");
}

TEST(OnnxReader, KeepsRowsInTheirWeight) {
  Graph graph;
  graph.initializers = {Raw("w", kF32, {2, 3}, Floats({1, 2, 3, 4, 5, 6}))};
  graph.nodes = {Node("Gather", "/e/Gather", {"w", "ids"}, {"y"})};
  const TemporaryFolder folder;
  const Opened opened = Open(folder.Write("x.onnx", ModelOf(graph)));
  RowCodec codec;
  std::vector<float> x(6);
  const Weight& weight = opened.model.weights()[0];
  EXPECT_THROW(opened.model.ReadRows(weight, 1, 2, codec, x), Error);
  EXPECT_THROW(opened.model.ReadRows(weight, UINT64_MAX, 1, codec, std::span(x).first(3)), Error);
  EXPECT_THROW(opened.model.ReadRows(weight, 0, 1, codec, x), Error);
}

// --- data of tensors ---

std::string OneTensor(const Wire& tensor) {
  Graph graph;
  graph.initializers = {tensor};
  return ModelOf(graph);
}

TEST(OnnxReader, ChecksDimsAndData) {
  const auto refusal = [](const Wire& tensor, ErrorCode code = ErrorCode::kBadData) {
    return Refusal(OneTensor(tensor), code);
  };
  EXPECT_EQ(refusal(Raw("w", kF32, {2}, "1234567")),
            "tensor 'w': data of 7 bytes but FLOAT x [2] needs 8");
  EXPECT_EQ(refusal(Raw("w", kF32, {2}, "123456789")),
            "tensor 'w': data of 9 bytes but FLOAT x [2] needs 8");
  EXPECT_EQ(refusal(Tensor("w", kF32, {2})),
            "tensor 'w': data of 0 entries but FLOAT x [2] needs 2");
  EXPECT_EQ(refusal(Tensor("w", kF32, {2}).Bytes(4, Floats({1}))),
            "tensor 'w': data of 1 entries but FLOAT x [2] needs 2");
  EXPECT_EQ(refusal(Tensor("w", kF32, {1}).Int(5, 1)),
            "tensor 'w': data of 0 entries but FLOAT x [1] needs 1");
  EXPECT_EQ(refusal(Tensor("w", kF32, {0}).Int(5, 1)),
            "tensor 'w': data in a field that is not for FLOAT");
  EXPECT_EQ(refusal(Tensor("w", kI8, {1}).Int(5, 128)),
            "tensor 'w': value 128 in its data, INT8 allows -128 to 127");
  const std::string two =
      "tensor 'w': data in two places: only one of raw_data, typed data and external data may be "
      "there";
  EXPECT_EQ(refusal(Raw("w", kF32, {1}, "1234").Bytes(4, Floats({1}))), two);
  EXPECT_EQ(refusal(External("w", kF32, {1}, {{"location", "d"}}).Bytes(9, "1234")), two);
  EXPECT_EQ(refusal(External("w", kF32, {1}, {{"location", "d"}}).Int(14, 0).Bytes(9, "1234")),
            two);
  EXPECT_EQ(refusal(External("w", kF32, {1}, {{"location", "d"}}).Bytes(4, Floats({1}))), two);
  EXPECT_EQ(refusal(Raw("w", kF32, {2, -3}, "")),
            "tensor 'w': dims [2, -3] have a negative number");
  EXPECT_EQ(refusal(Raw("w", kF32, {INT64_MAX, 2}, "")),
            "tensor 'w': dims [9223372036854775807, 2] overflow");
  EXPECT_EQ(refusal(Raw("w", kF32, {1LL << 32, 1LL << 32}, "")),
            "tensor 'w': dims [4294967296, 4294967296] overflow");
  EXPECT_EQ(refusal(Raw("w", kF32, {0, 1LL << 62, 4}, "")),
            "tensor 'w': dims [0, 4611686018427387904, 4] overflow");
  EXPECT_EQ(refusal(Raw("w", kF32, Dims(9, 1), "1234")), "tensor 'w': rank 9, allowed are 8");
  EXPECT_EQ(refusal(Raw("w", 99, {1}, "1"), ErrorCode::kUnsupported),
            "tensor 'w': data type 99, which phiq does not know");
  EXPECT_EQ(refusal(Raw("w", -1, {1}, "1"), ErrorCode::kUnsupported),
            "tensor 'w': data type -1, which phiq does not know");
  EXPECT_EQ(
      refusal(Raw("w", kF32, {1}, "1234").Message(3, Wire().Int(1, 0)), ErrorCode::kUnsupported),
      "tensor 'w': data in segments");
  EXPECT_EQ(refusal(Raw("", kF32, {1}, "1234")),
            "initializer 0 has a name of 0 bytes, allowed are 1 to 512");
  EXPECT_EQ(refusal(Raw(std::string(513, 'n'), kF32, {1}, "1234")),
            "initializer 0 has a name of 513 bytes, allowed are 1 to 512");
  EXPECT_EQ(refusal(Raw("a\x1b[31m\n::", kF32, {1}, "")),
            R"(tensor 'a\x1b[31m\x0a::': data of 0 bytes but FLOAT x [1] needs 4)");
}

TEST(OnnxReader, ChecksTensorsInsideOfNodes) {
  const auto with = [](const Wire& attribute) {
    Graph graph;
    graph.nodes = {Node("Constant", "c", {}, {"y"}, {attribute})};
    return Refusal(ModelOf(graph));
  };
  const Wire bad = Raw("w", kF32, {2}, "1234"),
             outside = External("w", kF32, {1}, {{"location", "../w"}});
  const std::string needs = "tensor 'w': data of 4 bytes but FLOAT x [2] needs 8";
  EXPECT_EQ(with(Wire().Bytes(1, "value").Message(5, bad)), needs);
  EXPECT_EQ(with(Wire().Bytes(1, "value").Message(10, bad)), needs);
  EXPECT_EQ(with(Wire().Bytes(1, "body").Message(6, Wire().Message(5, bad))), needs);
  EXPECT_EQ(with(Wire().Bytes(1, "body").Message(11, Wire().Message(15, Wire().Message(1, bad)))),
            needs);
  EXPECT_THAT(with(Wire().Bytes(1, "value").Message(5, outside)),
              HasSubstr("external data location '../w'"));
}

// --- external data ---

Wire At(const std::string& location) { return External("w", kU8, {4}, {{"location", location}}); }

TEST(OnnxReader, RefusesLocationsThatAreNoPlainPaths) {
  const auto refusal = [](const std::string& location) { return Refusal(OneTensor(At(location))); };
  const auto text = [](std::string_view location, std::string_view why) {
    return "tensor 'w': external data location '" + std::string(location) + "' " +
           std::string(why) + " (it must be a relative path below the model's folder)";
  };
  EXPECT_EQ(refusal(""), text("", "is empty"));
  EXPECT_EQ(Refusal(OneTensor(External("w", kU8, {4}, {{"offset", "0"}}))), text("", "is empty"));
  EXPECT_EQ(refusal("/etc/passwd"), text("/etc/passwd", "is an absolute path"));
  for (const char* location : {"..", "../w", "a/..", "a/../b", "a/../../b"}) {
    EXPECT_EQ(refusal(location), text(location, "leaves the model's folder with '..'"));
  }
  EXPECT_EQ(refusal("a\\..\\b"), text("a\\..\\b", "has a backslash"));
  EXPECT_EQ(refusal("C:/w"), text("C:/w", "begins with a drive letter"));
  EXPECT_EQ(refusal("c:w"), text("c:w", "begins with a drive letter"));
  EXPECT_EQ(refusal(std::string("w\0x", 3)), text("w\\x00x", "has a NUL byte"));
  EXPECT_EQ(refusal("a//b"), text("a//b", "has an empty part"));
  EXPECT_EQ(refusal("a/"), text("a/", "has an empty part"));
  for (const char* location : {"NUL", "nul.data", "a/Con", "COM1", "lpt9.bin", "aux .x"}) {
    EXPECT_EQ(refusal(location), text(location, "is the name of a device"));
  }
  EXPECT_EQ(refusal("x.onnx"),
            "tensor 'w': external data location 'x.onnx' is the model file itself");
  EXPECT_EQ(refusal("./x.onnx"),
            "tensor 'w': external data location './x.onnx' is the model file itself");
  EXPECT_EQ(refusal("\x1b[31m/.."), text("\\x1b[31m/..", "leaves the model's folder with '..'"));
}

TEST(OnnxReader, RefusesLinksOutOfTheFolder) {
  const TemporaryFolder outside, folder;
  outside.Write("secret", "1234");
  folder.Write("x.onnx", OneTensor(At("w.data")));
  std::filesystem::create_symlink(outside.path() / "secret", folder.path() / "w.data");
  EXPECT_EQ(Refusal(folder), "tensor 'w': external data location 'w.data' is a link to " +
                                 (outside.path() / "secret").string() +
                                 ", outside the model directory");
  // A folder on the way may be the link as well.
  folder.Write("x.onnx", OneTensor(At("d/secret")));
  std::filesystem::create_directory_symlink(outside.path(), folder.path() / "d");
  EXPECT_THAT(Refusal(folder), HasSubstr("outside the model directory"));
}

TEST(OnnxReader, FollowsLinksOfAHubCache) {
  const TemporaryFolder cache;
  const std::filesystem::path snapshot = cache.path() / "snapshots" / "0123";
  cache.Write("blobs/aa", OneTensor(At("w.data")));
  cache.Write("blobs/bb", "1234");
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_symlink("../../blobs/aa", snapshot / "model.onnx");
  std::filesystem::create_symlink("../../blobs/bb", snapshot / "w.data");
  EXPECT_THAT(Open(snapshot).model.initializers(), SizeIs(1));
  // Inside the folder links are fine too, and hard links.
  const TemporaryFolder folder;
  folder.Write("real/w", "1234");
  folder.Write("x.onnx", OneTensor(At("w.data")));
  std::filesystem::create_symlink("real/w", folder.path() / "w.data");
  EXPECT_EQ(Refusal(folder), "no error");
  std::filesystem::remove(folder.path() / "w.data");
  std::filesystem::create_hard_link(cache.path() / "blobs/bb", folder.path() / "w.data");
  EXPECT_EQ(Refusal(folder), "no error");
  // A folder whose name begins alike is another folder.
  const std::filesystem::path twin = folder.path().string() + "-twin";
  std::filesystem::create_directory(twin);
  std::filesystem::rename(folder.path() / "real/w", twin / "w");
  std::filesystem::remove(folder.path() / "w.data");
  std::filesystem::create_symlink(twin / "w", folder.path() / "w.data");
  EXPECT_THAT(Refusal(folder), HasSubstr("outside the model directory"));
  std::filesystem::remove_all(twin);
}

TEST(OnnxReader, WantsItsDataFiles) {
  const TemporaryFolder folder;
  folder.Write("x.onnx", OneTensor(At("w.data")));
  const auto failure = [&] {
    try {
      Open(folder.path() / "x.onnx");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInput);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const std::string path = (folder.path() / "w.data").string();
  EXPECT_EQ(failure(), path + ": tensor 'w': No such file or directory");
  std::filesystem::create_symlink("gone", path);
  EXPECT_EQ(failure(), path + ": tensor 'w': dangling link to gone");
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_EQ(failure(), path + ": tensor 'w': not a regular file");
}

TEST(OnnxReader, ChecksOffsetsAndLengths) {
  const TemporaryFolder folder;
  folder.Write("w.data", "0123456789");
  const auto refusal = [&](const Keys& keys) {
    Keys all = {{"location", "w.data"}};
    all.insert(all.end(), keys.begin(), keys.end());
    folder.Write("x.onnx", OneTensor(External("w", kU8, {4}, all)));
    return Refusal(folder);
  };
  EXPECT_EQ(refusal({{"offset", "6"}, {"length", "4"}}), "no error");
  EXPECT_EQ(refusal({{"offset", "0000006"}}), "no error");
  for (const char* bad : {"-1", "0x10", "1e3", " 1", "1 ", "", "+1", "18446744073709551616"}) {
    const std::string tail =
        std::string(" is '") + bad + "', allowed are decimal numbers below 2^64";
    EXPECT_EQ(refusal({{"offset", bad}}), "tensor 'w': external data offset" + tail);
    EXPECT_EQ(refusal({{"length", bad}}), "tensor 'w': external data length" + tail);
  }
  for (const char* offset :
       {"7", "10", "11", "4294967296", "18446744073709551615", "18446744073709551612"}) {
    EXPECT_EQ(refusal({{"offset", offset}, {"length", "4"}}),
              std::string("tensor 'w': external data offset ") + offset +
                  " and length 4, but 'w.data' has 10 bytes (incomplete download?)");
  }
  for (const char* length : {"0", "3", "5", "18446744073709551615"}) {
    EXPECT_EQ(refusal({{"length", length}}), std::string("tensor 'w': external data length ") +
                                                 length + " but UINT8 x [4] needs 4 bytes");
  }
  EXPECT_EQ(refusal({{"offset", "1"}, {"offset", "2"}}),
            "tensor 'w': external data has two keys 'offset'");
  EXPECT_EQ(refusal({{"location", "w.data"}}), "tensor 'w': external data has two keys 'location'");
}

TEST(OnnxReader, IgnoresUnknownKeysButNotThousands) {
  const TemporaryFolder folder;
  folder.Write("w.data", "0123");
  const auto refusal = [&](int n) {
    Keys keys = {{"location", "w.data"}};
    for (int i = 0; i < n; ++i) keys.emplace_back("__class__", "x");
    folder.Write("x.onnx", OneTensor(External("w", kU8, {4}, keys)));
    return Refusal(folder);
  };
  EXPECT_EQ(refusal(63), "no error");
  EXPECT_EQ(refusal(64), "tensor 'w': 65 external data keys, allowed are 64");
  EXPECT_EQ(refusal(10'000), "tensor 'w': 10001 external data keys, allowed are 64");
}

TEST(OnnxReader, BoundsItsDataFiles) {
  const TemporaryFolder folder;
  Graph graph;
  for (int i = 0; i <= 1024; ++i) {
    const std::string n = std::to_string(i);
    folder.Write(n, "1234");
    graph.initializers.push_back(External("w" + n, kU8, {4}, {{"location", i < 1024 ? n : "0"}}));
  }
  folder.Write("x.onnx", ModelOf(graph));
  EXPECT_EQ(Refusal(folder), "no error");
  graph.initializers.push_back(At("1024"));
  folder.Write("x.onnx", ModelOf(graph));
  EXPECT_EQ(Refusal(folder), "tensor 'w': more than 1024 external data files");
}

// --- the graph ---

std::vector<std::string> ProblemsOf(const Graph& graph) {
  const TemporaryFolder folder;
  return Open(folder.Write("x.onnx", ModelOf(graph))).model.FindGraphProblems();
}

TEST(OnnxReader, FindsNamesThatNothingDefines) {
  Graph graph;
  graph.inputs = {"x"};
  graph.outputs = {"y", "z"};
  graph.nodes = {Node("Add", "a", {"x", "missing", ""}, {"y", ""}),
                 Node("MatMulNBits", "m", {"x", "B", "S"}, {"q"},
                      {Attribute("K", 32), Attribute("N", 2), Attribute("block_size", 32)})};
  EXPECT_THAT(ProblemsOf(graph), ElementsAre("node 'a' reads 'missing', which nothing defines",
                                             "node 'm' reads 'B', which nothing defines",
                                             "node 'm' reads 'S', which nothing defines",
                                             "output 'z' is defined by nothing"));
}

TEST(OnnxReader, FindsNamesWithTwoDefinitions) {
  Graph graph;
  graph.inputs = {"x", "i"};
  graph.initializers = {Raw("w", kU8, {1}, "1"), Raw("w", kU8, {1}, "2"), Raw("i", kU8, {1}, "3")};
  graph.nodes = {Node("Relu", "a", {"x"}, {"y"}), Node("Relu", "b", {"x"}, {"y"}),
                 Node("Relu", "c", {"x"}, {"w"})};
  EXPECT_THAT(ProblemsOf(graph), ElementsAre("two initializers are named 'w'",
                                             "node 'b': its output 'y' is defined twice",
                                             "node 'c': its output 'w' is defined twice"));
}

Wire Branch(const Graph& graph) {
  return Wire().Bytes(1, "then_branch").Message(6, graph.wire()).Int(20, 5);
}

TEST(OnnxReader, FindsCycles) {
  Graph graph;
  graph.inputs = {"x"};
  // after -> (b -> c -> b); before is none of it, although it comes first.
  graph.nodes = {Node("Relu", "after", {"c"}, {"d"}), Node("Relu", "before", {"x"}, {"a"}),
                 Node("Add", "b", {"a", "c"}, {"b"}), Node("Relu", "c", {"b"}, {"c"})};
  const std::vector<std::string> problems = ProblemsOf(graph);
  ASSERT_THAT(problems, SizeIs(1));
  EXPECT_THAT(problems[0], ::testing::AnyOf("node 'b' is in a cycle: it waits for its own output",
                                            "node 'c' is in a cycle: it waits for its own output"));
  // In any order that has no cycle there is nothing to say.
  graph.nodes = {Node("Relu", "b", {"a"}, {"b"}), Node("Relu", "a", {"x"}, {"a"})};
  EXPECT_THAT(ProblemsOf(graph), IsEmpty());
  // Through a branch: the If waits for what its branch reads.
  Graph branch;
  branch.nodes = {Node("Relu", "inner", {"y"}, {"z"})};
  branch.outputs = {"z"};
  graph.nodes = {Node("If", "if", {"x"}, {"w"}, {Branch(branch)}), Node("Relu", "r", {"w"}, {"y"})};
  EXPECT_THAT(ProblemsOf(graph), SizeIs(1));
}

TEST(OnnxReader, LooksIntoBranches) {
  Graph branch;
  branch.initializers = {Raw("own", kU8, {1}, "1")};
  branch.nodes = {Node("Add", "inner", {"outer", "own"}, {"z"}),
                  Node("Relu", "lost", {"nowhere"}, {"q"})};
  branch.outputs = {"z", "outer"};
  Graph graph;
  graph.inputs = {"x"};
  graph.nodes = {Node("Relu", "r", {"x"}, {"outer"}),
                 Node("If", "if", {"x"}, {"y"}, {Branch(branch)}), Node("Relu", "s", {"z"}, {"t"})};
  EXPECT_THAT(ProblemsOf(graph), ElementsAre("node 'lost' reads 'nowhere', which nothing defines",
                                             "node 's' reads 'z', which nothing defines"));
}

TEST(OnnxReader, ListsAHundredProblems) {
  Graph graph;
  for (int i = 0; i < 250; ++i) graph.nodes.push_back(Node("Relu", "n", {"missing"}, {}));
  const std::vector<std::string> problems = ProblemsOf(graph);
  ASSERT_THAT(problems, SizeIs(101));
  EXPECT_EQ(problems.back(), "and 150 more");
}

TEST(OnnxReader, FindsTwoWeightsOfOneName) {
  Graph graph;
  graph.inputs = {"x"};
  graph.initializers = {Raw("a", kF32, {1, 1}, Floats({1})), Raw("b", kF32, {1, 1}, Floats({2}))};
  graph.nodes = {Node("MatMul", "/h/MatMul", {"x", "a"}, {"y"}),
                 Node("MatMul", "/h/MatMul", {"y", "b"}, {"z"})};
  EXPECT_THAT(ProblemsOf(graph), ElementsAre("two weights are named 'h.MatMul.weight'"));
}

}  // namespace
}  // namespace phiq::onnx
