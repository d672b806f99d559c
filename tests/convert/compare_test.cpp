// Two invented checkpoints whose differences are known, and the figures worked out by hand.
#include "phiq/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "phiq/convert.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

const std::string kTiny = std::string(kTestData) + "/phi35-tiny";
const std::string kTiny4 = std::string(kTestData) + "/phi4mini-tiny";

// One layer, hidden 4, two heads of 2 with one for keys, intermediate 2, vocabulary 3.
nlohmann::json Config() {
  return {{"architectures", {"Phi3ForCausalLM"}},
          {"hidden_size", 4},
          {"intermediate_size", 2},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"vocab_size", 3},
          {"rms_norm_eps", 1e-5},
          {"max_position_embeddings", 16},
          {"tie_word_embeddings", false}};
}

using Values = std::map<std::string, std::vector<float>>;

// A checkpoint of zeros but for some tensors.
class Invented {
 public:
  explicit Invented(const Values& values, const nlohmann::json& config = Config()) {
    testing::WriteTestFile(temp_.path() / "config.json", config.dump());
    nlohmann::ordered_json header;
    std::string data;
    for (const testing::HeaderTensor& tensor : testing::Phi3Tensors(config)) {
      std::uint64_t n = 1;
      for (const std::uint64_t dim : tensor.shape) n *= dim;
      std::vector<float> content(n, 0.0F);
      if (const auto found = values.find(tensor.name); found != values.end()) {
        EXPECT_EQ(found->second.size(), n) << tensor.name;
        content = found->second;
      }
      const std::size_t begin = data.size();
      data.append(reinterpret_cast<const char*>(content.data()), n * sizeof(float));
      header[tensor.name] = {
          {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string bytes;
    for (int shift = 0; shift < 64; shift += 8)
      bytes.push_back(static_cast<char>(text.size() >> shift));
    testing::WriteTestFile(temp_.path() / "model.safetensors", bytes + text + data);
  }
  std::string path() const { return temp_.path().string(); }

 private:
  testing::TempFolder temp_;
};

Comparison CompareOn(const std::string& a, const std::string& b, unsigned threads) {
  CompareOptions options;
  options.a = a;
  options.b = b;
  options.threads = threads;
  return Compare(options, {});
}

const ComparedTensor& Named(const Comparison& comparison, const std::string& name) {
  for (const ComparedTensor& tensor : comparison.tensors)
    if (tensor.name == name) return tensor;
  throw std::runtime_error("no tensor " + name);
}

std::pair<ErrorCode, std::string> Thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kNo, ""};
}

const std::string kDown = "model.layers.0.mlp.down_proj.weight";
const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kNorm = "model.norm.weight";
const std::string kHead = "lm_head.weight";

TEST(Compare, GivesTheFiguresWorkedOutByHand) {
  // down: 8 ones; one is 1.5, one 0.5: sum of squares 8 and 8.5, of errors 0.5, product 8.
  // embedding: a is zero, b not. norm: one error of 3 against squares of 4. head: one of 4.
  const Invented a({{kDown, {1, 1, 1, 1, 1, 1, 1, 1}},
                    {kNorm, {1, 1, 1, 1}},
                    {kHead, {2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}});
  const Invented b({{kDown, {1, 1.5, 1, 1, 1, 1, 0.5, 1}},
                    {kEmbedding, {0, 0, 0, 0, 0, 0.25, 0, 0, 0, 0, 0, 0}},
                    {kNorm, {1, 1, 1, 4}},
                    {kHead, {-2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}});
  const Comparison comparison = CompareOn(a.path(), b.path(), 2);

  const ComparedTensor& down = Named(comparison, kDown);
  EXPECT_EQ(down.max_error, 0.5);
  EXPECT_DOUBLE_EQ(down.rmse, 0.25);
  EXPECT_DOUBLE_EQ(down.relative_rmse, 0.25);
  EXPECT_DOUBLE_EQ(down.snr_db, 20 * std::log10(4.0));
  EXPECT_DOUBLE_EQ(down.cosine, 8 / std::sqrt(8 * 8.5));
  EXPECT_EQ(down.shape, (std::vector<std::uint64_t>{4, 2}));
  EXPECT_EQ(down.role, TensorRole::kMlpDown);
  EXPECT_EQ(down.layer, 0);

  const ComparedTensor& embedding = Named(comparison, kEmbedding);
  EXPECT_EQ(embedding.relative_rmse, std::numeric_limits<double>::infinity());
  EXPECT_EQ(embedding.snr_db, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(embedding.cosine, 0);
  EXPECT_EQ(embedding.layer, -1);

  const ComparedTensor& head = Named(comparison, kHead);
  EXPECT_EQ(head.cosine, -1);
  EXPECT_EQ(head.relative_rmse, 2);

  const ComparedTensor& norm = Named(comparison, kNorm);
  EXPECT_EQ(norm.shape, (std::vector<std::uint64_t>{4}));
  EXPECT_EQ(norm.relative_rmse, 1.5);

  const ComparedTensor& qkv = Named(comparison, "model.layers.0.self_attn.qkv_proj.weight");
  EXPECT_EQ(qkv.relative_rmse, 0);
  EXPECT_EQ(qkv.snr_db, std::numeric_limits<double>::infinity());
  EXPECT_EQ(qkv.cosine, 1);
  EXPECT_EQ(qkv.share, 0);

  // Squared errors: head 16, norm 9, down 0.5, embedding 0.0625.
  EXPECT_EQ(comparison.tensors[0].name, kHead);
  EXPECT_EQ(comparison.tensors[1].name, kNorm);
  EXPECT_EQ(comparison.tensors[2].name, kDown);
  EXPECT_EQ(comparison.tensors[3].name, kEmbedding);
  EXPECT_EQ(comparison.tensors[4].name, "model.layers.0.input_layernorm.weight");
  EXPECT_DOUBLE_EQ(comparison.tensors[0].share, 16 / 25.5625);
  EXPECT_DOUBLE_EQ(comparison.tensors[2].share, 0.5 / 25.5625);
  // Squares of a: 8 + 4 + 4.
  EXPECT_DOUBLE_EQ(comparison.relative_rmse, std::sqrt(25.5625 / 16));
  EXPECT_EQ(comparison.max_error, 4);
  // 12 + 32 + 16 + 16 + 8 + 3 * 4 + 12.
  EXPECT_EQ(comparison.n_weights, 108U);
  EXPECT_EQ(comparison.a.data_bytes, 432U);
  EXPECT_EQ(comparison.a.bits_per_weight, 32);
  EXPECT_EQ(comparison.a.kind, "checkpoint");
}

TEST(Compare, GivesTheSameFiguresForAnyNumberOfThreads) {
  const testing::TempFolder folder;
  ConvertOptions options;
  options.model = kTiny;
  options.output = (folder.path() / "out.gguf").string();
  options.targets.emplace_back().type = "Q4_K_M";
  options.fsync = false;
  Convert(options, {});
  const Comparison one = CompareOn(kTiny, options.output, 1);
  const Comparison five = CompareOn(kTiny, options.output, 5);
  ASSERT_EQ(one.tensors.size(), five.tensors.size());
  EXPECT_GT(one.relative_rmse, 0);
  EXPECT_EQ(one.relative_rmse, five.relative_rmse);
  for (std::size_t i = 0; i < one.tensors.size(); ++i) {
    EXPECT_EQ(one.tensors[i].name, five.tensors[i].name);
    EXPECT_EQ(one.tensors[i].rmse, five.tensors[i].rmse);
    EXPECT_EQ(one.tensors[i].cosine, five.tensors[i].cosine);
    EXPECT_EQ(one.tensors[i].share, five.tensors[i].share);
  }
}

TEST(Compare, ComparesTheFinerPartsOfBothSides) {
  const testing::TempFolder folder;
  ConvertOptions options;
  options.model = kTiny4;
  options.output = (folder.path() / "dml").string();
  options.targets.emplace_back().format = "onnx";
  options.targets[0].type = "int4";
  options.targets[0].knobs["ep"] = "dml";
  options.fsync = false;
  Convert(options, {});
  const Comparison comparison = CompareOn(kTiny4, options.output, 1);
  // Four layers of q, k, v, o, gate, up, down and two norms, the last norm, and the embedding,
  // which is the head on both sides.
  EXPECT_EQ(comparison.tensors.size(), 4 * 9 + 2U);
  const std::string qkv = "model.layers.3.self_attn.qkv_proj.weight";
  EXPECT_EQ(Named(comparison, qkv + "[q]").shape, (std::vector<std::uint64_t>{256, 256}));
  EXPECT_EQ(Named(comparison, qkv + "[k]").shape, (std::vector<std::uint64_t>{128, 256}));
  EXPECT_EQ(Named(comparison, qkv + "[v]").shape, (std::vector<std::uint64_t>{128, 256}));
  const std::string gate_up = "model.layers.0.mlp.gate_up_proj.weight";
  EXPECT_EQ(Named(comparison, gate_up + "[gate]").shape, (std::vector<std::uint64_t>{768, 256}));
  EXPECT_EQ(Named(comparison, gate_up + "[up]").type_a, "BF16");
  EXPECT_EQ(Named(comparison, gate_up + "[up]").type_b, "int4 g32");
  EXPECT_EQ(Named(comparison, gate_up + "[up]").bits_per_weight_b, 4.5);  // scales are float16
}

TEST(Compare, ComparesTheHeadWhereOneSideStoresOne) {
  const Invented own(
      {{kEmbedding, std::vector<float>(12, 1.0F)}, {kHead, std::vector<float>(12, 3.0F)}});
  nlohmann::json config = Config();
  config["tie_word_embeddings"] = true;
  const Invented tied(Values{{kEmbedding, std::vector<float>(12, 1.0F)}}, config);
  EXPECT_EQ(Named(CompareOn(own.path(), tied.path(), 1), kHead).max_error, 2);
  EXPECT_EQ(Named(CompareOn(tied.path(), own.path(), 1), kHead).relative_rmse, 2);
  for (const ComparedTensor& tensor : CompareOn(tied.path(), tied.path(), 1).tensors)
    EXPECT_NE(tensor.name, kHead);
}

TEST(Compare, RefusesAnotherModel) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"intermediate_size", "intermediate size 3, there 2"},
      {"vocab_size", "vocabulary size 4, there 3"},
      {"num_hidden_layers", "layers 2, there 1"},
      {"num_key_value_heads", "key and value heads 2, there 1"}};
  const Invented a(Values{});
  for (const auto& [key, wanted] : cases) {
    nlohmann::json config = Config();
    config[key] = config[key].get<int>() + 1;
    const Invented b(Values{}, config);
    EXPECT_EQ(Thrown([&] { CompareOn(a.path(), b.path(), 1); }),
              std::pair(ErrorCode::kBadData,
                        b.path() + ": is another model than " + a.path() + ": " + wanted));
  }
}

TEST(Compare, RefusesNan) {
  const Invented a(Values{});
  const Invented b(Values{{kDown, {0, 0, 0, NAN, 0, 0, 0, 0}}});
  const std::pair wanted(ErrorCode::kNumeric, b.path() + ": tensor '" + kDown +
                                                  "': F32 decodes to nan (row 1, column 1)");
  EXPECT_EQ(Thrown([&] { CompareOn(a.path(), b.path(), 1); }), wanted);
  EXPECT_EQ(Thrown([&] { CompareOn(b.path(), a.path(), 3); }), wanted);
}

TEST(Compare, StopsWhenAsked) {
  Hooks hooks;
  hooks.stop_requested = [] { return true; };
  CompareOptions options;
  options.a = options.b = kTiny;
  EXPECT_EQ(Thrown([&] { Compare(options, hooks); }).first, ErrorCode::kInterrupted);
}

TEST(Compare, ReportsProgressUpToTheEnd) {
  Hooks hooks;
  Progress last;
  hooks.progress = [&](const Progress& progress) { last = progress; };
  CompareOptions options;
  options.a = options.b = kTiny;
  Compare(options, hooks);
  EXPECT_EQ(last.total, 4'491'520U);
  EXPECT_EQ(last.done, last.total);
}

}  // namespace
}  // namespace phiq
