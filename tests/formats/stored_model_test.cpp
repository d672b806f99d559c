// Outputs of phiq read back: the same model as the checkpoint they were made from.
#include "stored/stored_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "convert/open_model.h"
#include "formats/small_model.h"
#include "model/rope.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

using testing::HeaderOnlyCheckpoint;
using testing::SmallConfig;

struct Target {
  std::string name;
  PlanOptions options;
  bool is_half = false;  // tables are float16
};

Target Gguf(std::string type) {
  Target target;
  target.name = type;
  target.options.type = std::move(type);
  return target;
}
Target Onnx(std::string type, const std::string& ep, bool is_half,
            const std::string& activations = "float") {
  Target target;
  target.name = "onnx " + type + " " + ep;
  target.options.format = "onnx";
  target.options.type = std::move(type);
  target.options.knobs["ep"] = ep;
  target.options.knobs["activations"] = activations;
  target.is_half = is_half;
  return target;
}

std::vector<Target> Targets() {
  return {Gguf("F32"),
          Gguf("Q8_0"),
          Onnx("fp32", "cpu", false),
          Onnx("fp16", "cpu", true),
          Onnx("int4", "cpu", false),
          Onnx("int8", "cpu", false),
          Onnx("int8", "cpu", false, "dynamic"),
          Onnx("int4", "cuda", true),
          Onnx("fp16", "dml", true),
          Onnx("int4", "dml", true),
          Onnx("int4", "webgpu", true)};
}

struct Variant {
  std::string name;
  nlohmann::json config;
};

std::vector<Variant> Variants() {
  nlohmann::json tied = SmallConfig();
  tied["tie_word_embeddings"] = true;
  nlohmann::json windowed = SmallConfig();
  windowed["sliding_window"] = 24;
  windowed.erase("rope_scaling");
  windowed.erase("original_max_position_embeddings");
  // Heads of 32, of which half is turned.
  nlohmann::json partial = SmallConfig();
  partial["num_attention_heads"] = 2;
  partial["partial_rotary_factor"] = 0.5;
  return {
      {"longrope", SmallConfig()}, {"tied", tied}, {"windowed", windowed}, {"partial", partial}};
}

class Output : public ::testing::TestWithParam<std::tuple<std::size_t, std::size_t>> {
 protected:
  const Variant variant_ = Variants()[std::get<0>(GetParam())];
  const Target target_ = Targets()[std::get<1>(GetParam())];
  const HeaderOnlyCheckpoint checkpoint_{variant_.name, variant_.config};
  const testing::TempFolder temp_;

  std::unique_ptr<StoredModel> Open() const {
    const bool is_onnx = target_.options.format == "onnx";
    const std::string path = (temp_.path() / (is_onnx ? "out" : "out.gguf")).string();
    testing::ConvertTo(checkpoint_.path().string(), path, target_.options);
    return OpenStoredModel(path, {});
  }
};

INSTANTIATE_TEST_SUITE_P(, Output,
                         ::testing::Combine(::testing::Range(std::size_t{0}, Variants().size()),
                                            ::testing::Range(std::size_t{0}, Targets().size())));

TEST_P(Output, HasTheCheckpointsConfiguration) {
  SCOPED_TRACE(variant_.name + ", " + target_.name);
  const std::unique_ptr<StoredModel> model = Open();
  const ModelConfig& found = model->config();
  const nlohmann::json& wanted = variant_.config;
  EXPECT_EQ(found.architecture, "Phi3ForCausalLM");
  EXPECT_EQ(found.vocab_size, 2112U);
  EXPECT_EQ(found.hidden_size, 64U);
  EXPECT_EQ(found.intermediate_size, 96U);
  EXPECT_EQ(found.n_layers, 2U);
  EXPECT_EQ(found.n_heads, wanted["num_attention_heads"]);
  EXPECT_EQ(found.n_kv_heads, 2U);
  EXPECT_EQ(found.head_dim, variant_.name == "partial" ? 32U : 16U);
  EXPECT_EQ(found.rope_dim, 16U);
  EXPECT_EQ(found.rms_norm_eps, 1e-5F);
  EXPECT_EQ(found.max_position_embeddings, 128U);
  EXPECT_EQ(found.original_max_position_embeddings, variant_.name == "windowed" ? 128U : 32U);
  EXPECT_EQ(found.sliding_window, variant_.name == "windowed" ? 24U : 0U);
  EXPECT_EQ(HasSlidingWindow(found), variant_.name == "windowed");
  // A tied embedding that has codes of other bits than the head, or none, is stored beside it.
  if (model->kind() == "gguf" || variant_.name != "tied") {
    EXPECT_EQ(found.tie_word_embeddings, variant_.name == "tied");
  }
}

TEST_P(Output, HasEveryWeight) {
  SCOPED_TRACE(variant_.name + ", " + target_.name);
  const std::unique_ptr<StoredModel> model = Open();
  const WeightIndex index(*model);
  RowCodec codec;
  std::vector<float> row(96, 1.0F);
  index.ReadRows({TensorRole::kMlpDown, 1}, 63, 1, codec, row);
  EXPECT_EQ(row, std::vector<float>(96, 0.0F));  // the checkpoint is a hole
  EXPECT_FALSE(index.PartsOf({TensorRole::kOutputHead}).empty());
}

TEST_P(Output, TurnsPositionsAsTheCheckpointDoes) {
  SCOPED_TRACE(variant_.name + ", " + target_.name);
  const std::unique_ptr<StoredModel> model = Open();
  const WarningFn warn = [](const Warning&) {};
  const ModelConfig config =
      ReadModelConfig(LocateCheckpoint(checkpoint_.path().string(), warn), warn);
  const ConfigTables tables(config);
  const bool is_scaled = variant_.name != "windowed";
  // Up to the original length and beyond it.
  for (const std::uint64_t n :
       {std::uint64_t{1}, std::uint64_t{32}, std::uint64_t{33}, std::uint64_t{128}}) {
    std::vector<float> cosines(n * 8), sines(n * 8), wanted(n * 8);
    model->ReadRotary(n, cosines, sines);
    const bool is_long = is_scaled && n > 32;
    for (const bool is_cosine : {true, false}) {
      using enum ConfigTable;
      tables.ReadRows(is_long ? (is_cosine ? kCosLong : kSinLong) : (is_cosine ? kCos : kSin), 0,
                      wanted);
      const std::vector<float>& found = is_cosine ? cosines : sines;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        // float16 rounds to 11 bits, and below 2^-14 to multiples of 2^-24.
        const float allowed =
            target_.is_half ? std::max(std::abs(wanted[i]) * 0x1p-11F, 0x1p-25F) : 0.0F;
        ASSERT_LE(std::abs(found[i] - wanted[i]), allowed) << "length " << n << ", element " << i;
      }
    }
  }
}

TEST(OpenStoredModel, TellsWhatItHasOpened) {
  const HeaderOnlyCheckpoint checkpoint("small", SmallConfig());
  const testing::TempFolder temp;
  const std::string onnx = (temp.path() / "onnx").string();
  const std::string gguf = (temp.path() / "file").string();  // by its bytes, not its name
  testing::ConvertTo(checkpoint.path().string(), gguf, Targets()[0].options);
  testing::ConvertTo(checkpoint.path().string(), onnx, Targets()[2].options);
  EXPECT_EQ(OpenStoredModel(gguf, {})->kind(), "gguf");
  EXPECT_EQ(OpenStoredModel(onnx, {})->kind(), "onnx");
  EXPECT_EQ(OpenStoredModel(onnx + "/model.onnx", {})->kind(), "onnx");
  EXPECT_EQ(OpenStoredModel(checkpoint.path().string(), {})->kind(), "checkpoint");
  EXPECT_EQ(OpenStoredModel((checkpoint.path() / "model.safetensors").string(), {})->kind(),
            "checkpoint");
}

TEST(OpenStoredModel, NeedsATokenizerOnlyWhenAskedForIt) {
  const HeaderOnlyCheckpoint checkpoint("small", SmallConfig());
  for (const char* name : {"tokenizer.json", "tokenizer.model"})
    std::filesystem::remove(checkpoint.path() / name);
  const std::unique_ptr<StoredModel> model = OpenStoredModel(checkpoint.path().string(), {});
  EXPECT_EQ(testing::Thrown([&] { model->ReadTokenizer({}); }).first, ErrorCode::kInput);
}

TEST(OpenStoredModel, FindsTheTokenizerOfAnOnnxFolder) {
  const testing::TempFolder temp;
  for (const std::string name : {"phi35-tiny", "phi4mini-tiny"}) {
    const std::string checkpoint = std::string(kTestData) + "/" + name;
    const std::string folder = (temp.path() / name).string();
    testing::ConvertTo(checkpoint, folder, Onnx("int4", "cpu", false).options);
    const WarningFn warn = [](const Warning&) {};
    const Tokenizer found = OpenStoredModel(folder, {})->ReadTokenizer(warn);
    const Tokenizer wanted = OpenStoredModel(checkpoint, {})->ReadTokenizer(warn);
    EXPECT_EQ(found.kind, wanted.kind);
    EXPECT_EQ(found.vocab, wanted.vocab);
    EXPECT_EQ(found.merges, wanted.merges);
    EXPECT_FALSE(found.vocab.empty());
    EXPECT_EQ(found.bos_id, wanted.bos_id);
    EXPECT_EQ(found.eos_id, wanted.eos_id);
  }
}

}  // namespace
}  // namespace phiq
