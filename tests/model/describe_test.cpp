// Tensors get roles; those without one are named.
#include <map>

#include "model/fixture.h"
#include "phiq/model.h"

namespace phiq::testing {
namespace {

Model Describe(const std::filesystem::path& path, const DescribeOptions& options = {}) {
  const CheckpointFolder folder = LocateCheckpoint(path.string(), nullptr);
  const Checkpoint checkpoint = OpenCheckpoint(folder, nullptr);
  return DescribeModel(folder, ReadModelConfig(folder, nullptr), checkpoint, options, nullptr);
}

// A checkpoint with the tiny configuration and tensors of the test's own choice.
class EditedTensors {
 public:
  explicit EditedTensors(const std::string& base)
      : files_(base), tensors_(Phi3Tensors(files_.Json("config.json"))) {}

  HeaderTensor& At(const std::string& name) {
    for (HeaderTensor& tensor : tensors_) {
      if (tensor.name == name) return tensor;
    }
    throw std::runtime_error("no tensor " + name);
  }
  void Add(HeaderTensor tensor) { tensors_.push_back(std::move(tensor)); }
  void Drop(const std::string& part) {
    std::erase_if(tensors_, [&](const HeaderTensor& tensor) {
      return tensor.name.find(part) != std::string::npos;
    });
  }
  const SideFiles& files() const { return files_; }

  Model Describe(const DescribeOptions& options = {}) const {
    WriteSparseSafetensors(files_.path("model.safetensors"), tensors_);
    return testing::Describe(files_.path(""), options);
  }

 private:
  SideFiles files_;
  std::vector<HeaderTensor> tensors_;
};

TEST(DescribeModel, FindsEveryTensorOfThePublishedModels) {
  struct Counts {
    std::size_t n_tensors;
    std::uint64_t n_weights;
  };
  // Published parameter counts.
  const std::map<std::string, Counts> expected = {
      {"Phi-3-mini-4k-instruct", {195, 3'821'079'552}},
      {"Phi-3-mini-128k-instruct", {195, 3'821'079'552}},
      {"Phi-3.5-mini-instruct", {195, 3'821'079'552}},
      {"Phi-3-medium-4k-instruct", {243, 13'960'238'080}},
      {"Phi-3-medium-128k-instruct", {243, 13'960'238'080}},
      {"Phi-4", {243, 14'659'507'200}},
      {"Phi-4-reasoning", {243, 14'659'507'200}},
      {"Phi-4-mini-instruct", {194, 3'836'021'760}},
      {"Phi-4-mini-reasoning", {194, 3'836'021'760}}};
  for (const std::string& name : kPublishedModels) {
    const HeaderOnlyCheckpoint fixture(name);
    const Model model = Describe(fixture.path());
    std::uint64_t n_weights = 0;
    for (const ModelTensor& tensor : model.tensors) n_weights += tensor.n_elements();
    EXPECT_EQ(model.tensors.size(), expected.at(name).n_tensors) << name;
    EXPECT_EQ(n_weights, expected.at(name).n_weights) << name;
    EXPECT_EQ(model.name, name);
  }
}

TEST(DescribeModel, ListsTensorsInTheModelsOrder) {
  const EditedTensors edited("phi35-tiny");
  const Model model = edited.Describe();
  ASSERT_EQ(model.tensors.size(), 27U);  // 3 + 4 layers of 6
  const TensorRole first[] = {TensorRole::kTokenEmbedding, TensorRole::kAttentionNorm,
                              TensorRole::kAttentionQkv,   TensorRole::kAttentionOutput,
                              TensorRole::kMlpNorm,        TensorRole::kMlpGateUp,
                              TensorRole::kMlpDown,        TensorRole::kAttentionNorm};
  for (std::size_t i = 0; i < std::size(first); ++i)
    EXPECT_EQ(model.tensors[i].role, first[i]) << i;
  EXPECT_EQ(model.tensors[0].layer, -1);
  EXPECT_EQ(model.tensors[6].layer, 0);
  EXPECT_EQ(model.tensors[7].layer, 1);
  EXPECT_EQ(model.tensors[25].role, TensorRole::kOutputNorm);
  EXPECT_EQ(model.tensors[26].role, TensorRole::kOutputHead);
  EXPECT_EQ(model.tensors[8].name, "model.layers.1.self_attn.qkv_proj.weight");
}

TEST(DescribeModel, NamesMissingTensors) {
  EditedTensors edited("phi35-tiny");
  edited.Drop("layers.3.");
  ExpectError(
      ErrorCode::kBadData,
      "missing tensors 'model.layers.3.input_layernorm.weight', "
      "'model.layers.3.self_attn.qkv_proj.weight', "
      "'model.layers.3.self_attn.o_proj.weight', 'model.layers.3.post_attention_layernorm.weight', "
      "'model.layers.3.mlp.gate_up_proj.weight', ... (6 in all) (config.json: num_hidden_layers 4",
      [&] { edited.Describe(); });
  EditedTensors headless("phi35-tiny");
  headless.Drop("lm_head");
  ExpectError(ErrorCode::kBadData, "missing tensor 'lm_head.weight'", [&] { headless.Describe(); });
}

TEST(DescribeModel, NamesTensorsWithoutARoleUnlessTheyAreIgnored) {
  EditedTensors edited("phi35-tiny");
  edited.Add({"model.layers.4.mlp.down_proj.weight", {256, 768}});
  edited.Add({"model.vision.patch", {4}});
  ExpectError(ErrorCode::kBadData,
              "2 tensors without a role in Phi3ForCausalLM with 4 layers: "
              "'model.layers.4.mlp.down_proj.weight', "
              "'model.vision.patch' (--ignore-extra GLOB leaves them out)",
              [&] { edited.Describe(); });
  ExpectError(ErrorCode::kBadData, "1 tensor without a role",
              [&] { edited.Describe({.ignore_extra = {"model.vision.*"}}); });
  EXPECT_EQ(edited.Describe({.ignore_extra = {"model.vision.*", "*.layers.4.*"}}).tensors.size(),
            27U);
}

TEST(DescribeModel, DropsRotaryFrequenciesSilently) {
  EditedTensors edited("phi35-tiny");
  edited.Add({"model.layers.0.self_attn.rotary_emb.inv_freq", {32}, "F32"});
  EXPECT_EQ(edited.Describe().tensors.size(), 27U);
}

TEST(DescribeModel, NamesFoundAndExpectedShape) {
  EditedTensors edited("phi4mini-tiny");  // 4 heads and 2 key-value heads of 64: 256 + 2 * 128 rows
  edited.At("model.layers.2.self_attn.qkv_proj.weight").shape = {256, 512};
  ExpectError(
      ErrorCode::kBadData,
      "tensor 'model.layers.2.self_attn.qkv_proj.weight': shape [256, 512], expected shape [512, "
      "256] "
      "(config.json: (num_attention_heads + 2 * num_key_value_heads) * head size, hidden_size)",
      [&] { edited.Describe(); });
}

TEST(DescribeModel, RefusesWeightsThatAreNotFloats) {
  EditedTensors edited("phi35-tiny");
  edited.At("model.norm.weight").dtype = "I16";
  ExpectError(ErrorCode::kUnsupported,
              "tensor 'model.norm.weight': dtype I16 cannot be used for a weight (usable: F32, "
              "F16, BF16, F64, F8_E4M3, F8_E5M2)",
              [&] { edited.Describe(); });
}

TEST(DescribeModel, LeavesATiedHeadOut) {
  for (const char* dtype : {"BF16", "F32"}) {
    EditedTensors edited("phi4mini-tiny");
    edited.Add({"lm_head.weight", {2112, 256}, dtype});
    const Model model = edited.Describe();
    EXPECT_EQ(model.tensors.size(), 26U);
    EXPECT_EQ(model.tensors.back().role, TensorRole::kOutputNorm);
  }
}

TEST(TensorRole, OnlyNormsAreNorms) {
  EXPECT_TRUE(IsNorm(TensorRole::kOutputNorm));
  EXPECT_TRUE(IsNorm(TensorRole::kAttentionNorm));
  EXPECT_TRUE(IsNorm(TensorRole::kMlpNorm));
  EXPECT_FALSE(IsNorm(TensorRole::kMlpDown));
  EXPECT_FALSE(IsNorm(TensorRole::kTokenEmbedding));
  EXPECT_EQ(RoleName(TensorRole::kAttentionQkv), "attention_qkv");
}

}  // namespace
}  // namespace phiq::testing
