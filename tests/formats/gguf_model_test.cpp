// GGUF files put together by hand, as a model: what is taken from them, and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "convert/open_model.h"
#include "formats/gguf/gguf_bytes.h"
#include "formats/small_model.h"
#include "stored/stored_model.h"

namespace phiq {
namespace {

using gguf::testing::Bytes;

// Values of records, with their types before them.
std::string U32(std::uint32_t value) { return Bytes().I32(4).U32(value).text(); }
std::string I32(std::int32_t value) { return Bytes().I32(5).I32(value).text(); }
std::string F32(float value) { return Bytes().I32(6).Put(value).text(); }
std::string Str(std::string_view value) { return Bytes().I32(8).Str(value).text(); }
std::string U32s(const std::vector<std::uint32_t>& values) {
  Bytes bytes = Bytes().I32(9).I32(4).U64(values.size());
  for (const std::uint32_t value : values) bytes.U32(value);
  return bytes.text();
}

struct HandMade {
  // Two heads of 2 with one for keys; contexts of 8 and 32; every value but the floats differs from
  // its default.
  std::map<std::string, std::string> records = {
      {"general.architecture", Str("phi3")},
      {"phi3.context_length", U32(32)},
      {"phi3.rope.scaling.original_context_length", U32(8)},
      {"phi3.embedding_length", U32(4)},
      {"phi3.feed_forward_length", U32(3)},
      {"phi3.block_count", U32(1)},
      {"phi3.attention.head_count", U32(2)},
      {"phi3.attention.head_count_kv", U32(1)},
      {"phi3.attention.layer_norm_rms_epsilon", F32(0.5F)},
      {"phi3.rope.dimension_count", U32(2)},
      {"phi3.rope.freq_base", F32(100)},
      {"phi3.rope.scaling.attn_factor", F32(2)},
      {"phi3.attention.sliding_window", U32(7)},
      {"tokenizer.ggml.bos_token_id", U32(3)}};
  // Shapes rows first. All float32; elements count up from the tensor's number times 100.
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> tensors = {
      {"token_embd.weight", {5, 4}},     {"output_norm.weight", {4}},
      {"output.weight", {5, 4}},         {"blk.0.attn_norm.weight", {4}},
      {"blk.0.attn_qkv.weight", {8, 4}}, {"blk.0.attn_output.weight", {4, 4}},
      {"blk.0.ffn_norm.weight", {4}},    {"blk.0.ffn_up.weight", {6, 4}},
      {"blk.0.ffn_down.weight", {4, 3}}, {"rope_factors_long.weight", {1}},
      {"rope_factors_short.weight", {1}}};
  std::map<std::string, float> first_values = {{"rope_factors_long.weight", 4.0F},
                                               {"rope_factors_short.weight", 1.0F}};

  void RemoveTensor(const std::string& name) {
    std::erase_if(tensors, [&](const auto& tensor) { return tensor.first == name; });
  }

  std::string bytes() const {
    Bytes file = Bytes::Head(tensors.size(), records.size());
    for (const auto& [key, value] : records) file.Str(key).Raw(value);
    Bytes data;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto& [name, shape] = tensors[i];
      file.TensorInfo(name, {shape.rbegin(), shape.rend()}, 0, data.text().size());
      std::uint64_t n = 1;
      for (const std::uint64_t dim : shape) n *= dim;
      const auto first = first_values.find(name);
      const float base = first == first_values.end() ? static_cast<float>(100 * i) : first->second;
      for (std::uint64_t e = 0; e < n; ++e) data.Put(base + static_cast<float>(e));
      data.PadTo(32);
    }
    return file.PadTo(32).Raw(data.text()).text();
  }
};

class GgufModel : public ::testing::Test {
 protected:
  std::unique_ptr<StoredModel> Open() const {
    return OpenStoredModel(folder_.Write("hand.gguf", made_.bytes()).string(), {});
  }
  // The line without the path before it.
  std::pair<ErrorCode, std::string> Refusal() const {
    auto [code, text] = testing::Thrown([&] {
      const std::unique_ptr<StoredModel> model = Open();
      const WeightIndex index(*model);
    });
    const std::string path = (folder_.path() / "hand.gguf").string() + ": ";
    EXPECT_TRUE(text.starts_with(path)) << text;
    return {code, text.substr(std::min(path.size(), text.size()))};
  }

  gguf::testing::Folder folder_;
  HandMade made_;
};

using Pair = std::pair<ErrorCode, std::string>;

TEST_F(GgufModel, HasTheConfigurationOfItsKeys) {
  const std::unique_ptr<StoredModel> model = Open();
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.vocab_size, 5U);
  EXPECT_EQ(config.hidden_size, 4U);
  EXPECT_EQ(config.intermediate_size, 3U);
  EXPECT_EQ(config.n_layers, 1U);
  EXPECT_EQ(config.n_heads, 2U);
  EXPECT_EQ(config.n_kv_heads, 1U);
  EXPECT_EQ(config.head_dim, 2U);
  EXPECT_EQ(config.rope_dim, 2U);
  EXPECT_EQ(config.rms_norm_eps, 0.5F);
  EXPECT_EQ(config.rope_theta, 100.0F);
  EXPECT_EQ(config.max_position_embeddings, 32U);
  EXPECT_EQ(config.original_max_position_embeddings, 8U);
  EXPECT_EQ(config.sliding_window, 7U);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope_scaling, RopeScalingType::kLongRope);
  EXPECT_EQ(config.bos_token_id, 3U);
  EXPECT_EQ(config.eos_token_id, std::nullopt);
}

TEST_F(GgufModel, TakesWhatLlamaCppTakesForMissingKeys) {
  for (const char* key :
       {"phi3.rope.scaling.original_context_length", "phi3.attention.head_count_kv",
        "phi3.rope.dimension_count", "phi3.rope.freq_base", "phi3.attention.sliding_window"})
    made_.records.erase(key);
  made_.tensors[4].second = {12, 4};  // three times two heads of 2
  const std::unique_ptr<StoredModel> model = Open();
  EXPECT_EQ(model->config().n_kv_heads, 2U);
  EXPECT_EQ(model->config().rope_dim, 2U);
  EXPECT_EQ(model->config().rope_theta, 10000.0F);
  EXPECT_EQ(model->config().original_max_position_embeddings, 32U);
  EXPECT_EQ(model->config().sliding_window, 0U);
  const WeightIndex index(*model);
}

TEST_F(GgufModel, ReadsItsRows) {
  const std::unique_ptr<StoredModel> model = Open();
  const WeightIndex index(*model);
  RowCodec codec;
  std::vector<float> rows(6);
  index.ReadRows({TensorRole::kMlpDown, 0}, 2, 2, codec, rows);
  EXPECT_EQ(rows, (std::vector<float>{806, 807, 808, 809, 810, 811}));
}

TEST_F(GgufModel, TurnsByTheFilesAttentionFactorAndFactors) {
  std::vector<float> cosines(9), sines(9);
  const std::unique_ptr<StoredModel> model = Open();
  // One pair of dimensions: the frequency is 1 / factor. Three roundings of 2^-24 on the way.
  model->ReadRotary(8, std::span(cosines).first(8), std::span(sines).first(8));
  EXPECT_EQ(cosines[0], 2.0F);
  EXPECT_NEAR(cosines[4], 2 * std::cos(4.0), 1e-6);
  EXPECT_NEAR(sines[7], 2 * std::sin(7.0), 1e-6);
  model->ReadRotary(9, cosines, sines);  // beyond the original context: the long factor, 4
  EXPECT_NEAR(cosines[4], 2 * std::cos(1.0), 1e-6);
  EXPECT_NEAR(sines[8], 2 * std::sin(2.0), 1e-6);
}

TEST_F(GgufModel, MultipliesByOneWithoutAnAttentionFactor) {
  made_.records.erase("phi3.rope.scaling.attn_factor");
  std::vector<float> cosines(1), sines(1);
  Open()->ReadRotary(1, cosines, sines);
  EXPECT_EQ(cosines[0], 1.0F);
}

TEST_F(GgufModel, IsTiedWithoutAnOutput) {
  made_.RemoveTensor("output.weight");
  const std::unique_ptr<StoredModel> model = Open();
  EXPECT_TRUE(model->config().tie_word_embeddings);
  const WeightIndex index(*model);
  EXPECT_EQ(index.PartsOf({TensorRole::kOutputHead})[0].piece, 0U);
}

TEST_F(GgufModel, RefusesAnotherArchitecture) {
  made_.records["general.architecture"] = Str("llama");
  EXPECT_EQ(Refusal(), Pair(ErrorCode::kUnsupported,
                            "architecture 'llama' is not supported, only phi3 and phimoe"));
  made_.records["general.architecture"] = U32(3);
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kBadData,
                 "'general.architecture' is u32 3, needs the string 'phi3' or 'phimoe'"));
  made_.records.erase("general.architecture");
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kBadData,
                 "'general.architecture' is missing, needs the string 'phi3' or 'phimoe'"));
}

TEST_F(GgufModel, RefusesSizesThatCannotBe) {
  struct Case {
    std::string key, value, wanted;
  };
  const std::vector<Case> cases = {
      {"phi3.embedding_length", U32(0), "u32 0, needs a u32 from 1 to 65536"},
      {"phi3.embedding_length", U32(65537), "u32 65537, needs a u32 from 1 to 65536"},
      {"phi3.embedding_length", I32(4), "i32 4, needs a u32 from 1 to 65536"},
      {"phi3.feed_forward_length", U32(0xFFFFFFFF),
       "u32 4294967295, needs a u32 from 1 to 1048576"},
      {"phi3.block_count", U32(1025), "u32 1025, needs a u32 from 1 to 1024"},
      {"phi3.attention.head_count", U32(0), "u32 0, needs a u32 from 1 to 1024"},
      {"phi3.attention.head_count", U32(3), "u32 3, needs a divisor of embedding_length 4"},
      {"phi3.attention.head_count_kv", U32(3), "u32 3, needs a u32 from 1 to 2"},
      {"phi3.context_length", U32(1), "u32 1, needs a u32 from 2 to 2147483647"},
      {"phi3.context_length", U32(0x80000000), "u32 2147483648, needs a u32 from 2 to 2147483647"},
      {"phi3.rope.scaling.original_context_length", U32(0),
       "u32 0, needs a u32 from 2 to 2147483647"},
      {"phi3.attention.sliding_window", U32(0x80000000),
       "u32 2147483648, needs a u32 from 0 to 2147483647"},
      {"phi3.rope.dimension_count", U32(3), "u32 3, needs a u32 from 1 to 2"},
      {"phi3.rope.dimension_count", U32(1), "u32 1, needs an even number"},
      {"phi3.rope.freq_base", F32(0), "f32 0, needs a finite f32 above 0"},
      {"phi3.rope.freq_base", F32(-1), "f32 -1, needs a finite f32 above 0"},
      {"phi3.rope.freq_base", U32(1), "u32 1, needs a finite f32 above 0"},
      {"phi3.rope.scaling.attn_factor", F32(NAN), "f32 nan, needs a finite f32 above 0"},
      {"phi3.rope.scaling.attn_factor", F32(INFINITY), "f32 inf, needs a finite f32 above 0"},
      {"phi3.attention.layer_norm_rms_epsilon", F32(0), "f32 0, needs a finite f32 above 0"},
      {"tokenizer.ggml.bos_token_id", U32(5), "u32 5, needs a u32 from 0 to 4"},
      {"phi3.rope.scaling.type", U32(1), "u32 1, needs a string"}};
  for (const Case& c : cases) {
    const HandMade before = made_;
    made_.records[c.key] = c.value;
    EXPECT_EQ(Refusal(), Pair(ErrorCode::kBadData, "'" + c.key + "' is " + c.wanted));
    made_ = before;
  }
}

TEST_F(GgufModel, RefusesHeadsThatDoNotDivide) {
  made_.records["phi3.embedding_length"] = U32(6);
  made_.records["phi3.attention.head_count"] = U32(3);
  made_.records["phi3.attention.head_count_kv"] = U32(2);
  EXPECT_EQ(Refusal(), Pair(ErrorCode::kBadData,
                            "'phi3.attention.head_count_kv' is u32 2, needs a "
                            "divisor of head_count 3"));
}

TEST_F(GgufModel, RefusesMissingKeys) {
  for (const char* key :
       {"phi3.context_length", "phi3.embedding_length", "phi3.feed_forward_length",
        "phi3.block_count", "phi3.attention.head_count", "phi3.attention.layer_norm_rms_epsilon"}) {
    const HandMade before = made_;
    made_.records.erase(key);
    const auto [code, text] = Refusal();
    EXPECT_EQ(code, ErrorCode::kBadData);
    EXPECT_TRUE(text.starts_with(std::string("'") + key + "' is missing, needs ")) << text;
    made_ = before;
  }
}

TEST_F(GgufModel, RefusesWhatPhiModelsDoNotHave) {
  const std::vector<std::pair<std::pair<std::string, std::string>, std::string>> cases = {
      {{"phi3.attention.head_count", U32s({2})},
       "'phi3.attention.head_count' is an array: layers that differ are not supported"},
      {{"phi3.attention.key_length", U32(4)},
       "'phi3.attention.key_length' is 4, only 2 is supported (embedding_length / head_count)"},
      {{"phi3.rope.scaling.type", Str("linear")},
       "'phi3.rope.scaling.type' 'linear' is not supported, only none and longrope"},
      {{"phi3.rope.scaling.factor", F32(2)},
       "'phi3.rope.scaling.factor' is 2, only 1 is supported"}};
  for (const auto& [record, wanted] : cases) {
    const HandMade before = made_;
    made_.records[record.first] = record.second;
    EXPECT_EQ(Refusal(), Pair(ErrorCode::kUnsupported, wanted));
    made_ = before;
  }
  made_.tensors.push_back({"blk.0.attn_qkv.bias", {8}});
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kUnsupported,
                 "tensor 'blk.0.attn_qkv.bias': has no role in a phi3 model of 1 layers"));
}

TEST_F(GgufModel, RefusesTensorsThatCannotBe) {
  const auto refusal = [&](auto change) {
    const HandMade before = made_;
    change();
    const Pair found = Refusal();
    made_ = before;
    return found;
  };
  EXPECT_EQ(refusal([&] { made_.RemoveTensor("token_embd.weight"); }),
            Pair(ErrorCode::kBadData, "tensor 'token_embd.weight' is missing"));
  EXPECT_EQ(refusal([&] { made_.tensors[0].second = {20}; }),
            Pair(ErrorCode::kBadData,
                 "tensor 'token_embd.weight': has 1 dimensions and 0 rows, "
                 "needs two and 1 to 1048576"));
  EXPECT_EQ(refusal([&] {
              made_.tensors[8].second = {2, 2, 3};
            }),
            Pair(ErrorCode::kBadData, "tensor 'blk.0.ffn_down.weight': has 3 dimensions, needs 2"));
  EXPECT_EQ(refusal([&] { made_.RemoveTensor("rope_factors_long.weight"); }),
            Pair(ErrorCode::kBadData,
                 "tensor 'rope_factors_long.weight' is missing, the other "
                 "rope factors are there"));
  EXPECT_EQ(refusal([&] { made_.tensors[10].second = {2}; }),
            Pair(ErrorCode::kBadData,
                 "tensor 'rope_factors_short.weight': is F32 of 2 elements, "
                 "needs F32 of 1 (half the rotated dimensions)"));
  EXPECT_EQ(refusal([&] { made_.first_values["rope_factors_short.weight"] = NAN; }),
            Pair(ErrorCode::kBadData,
                 "tensor 'rope_factors_short.weight': element 0 is nan, needs "
                 "a finite number above 0"));
  EXPECT_EQ(
      refusal([&] { made_.first_values["rope_factors_long.weight"] = 1e-40F; }),
      Pair(ErrorCode::kBadData, "rotary frequency 0 is inf: theta or a rope factor is too small"));
}

}  // namespace
}  // namespace phiq
