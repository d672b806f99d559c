// An ONNX folder of phiq, changed in one place: what is taken from it, and what is refused.
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "convert/open_model.h"
#include "formats/small_model.h"
#include "stored/stored_model.h"
#include "testing/header_only_checkpoint.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using Pair = std::pair<ErrorCode, std::string>;

class OnnxModel : public ::testing::Test {
 protected:
  void SetUp() override { Write("cpu"); }

  void Write(const std::string& ep) {
    const testing::HeaderOnlyCheckpoint checkpoint("small", testing::SmallConfig());
    PlanOptions target;
    target.format = "onnx";
    target.type = ep == "cpu" ? "fp32" : "fp16";
    target.knobs["ep"] = ep;
    fs::remove_all(folder());
    testing::ConvertTo(checkpoint.path().string(), folder().string(), target);
  }

  fs::path folder() const { return temp_.path() / "out"; }
  std::unique_ptr<StoredModel> Open() const { return OpenStoredModel(folder().string(), {}); }

  void Edit(const std::function<void(::onnx::GraphProto&)>& edit) const {
    ::onnx::ModelProto model;
    std::ifstream in(folder() / "model.onnx", std::ios::binary);
    ASSERT_TRUE(model.ParseFromIstream(&in));
    edit(*model.mutable_graph());
    std::ofstream out(folder() / "model.onnx", std::ios::binary);
    ASSERT_TRUE(model.SerializeToOstream(&out));
  }
  // Of the first node of this operator.
  void EditNode(const std::string& op, const std::function<void(::onnx::NodeProto&)>& edit) const {
    Edit([&](::onnx::GraphProto& graph) {
      for (::onnx::NodeProto& node : *graph.mutable_node()) {
        if (node.op_type() != op) continue;
        edit(node);
        return;
      }
      FAIL() << "no " << op;
    });
  }
  static ::onnx::AttributeProto& Attribute(::onnx::NodeProto& node, const std::string& name) {
    for (::onnx::AttributeProto& attribute : *node.mutable_attribute())
      if (attribute.name() == name) return attribute;
    ::onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(::onnx::AttributeProto::INT);
    return attribute;
  }
  void EditGenai(const std::function<void(nlohmann::json&)>& edit) const {
    nlohmann::json json = testing::ReadTestJson(folder() / "genai_config.json");
    edit(json);
    testing::WriteTestFile(folder() / "genai_config.json", json.dump());
  }
  // Overwrites an element of an initializer in the data file.
  void EditFloat(const std::string& name, std::size_t element, float value) const {
    std::uint64_t offset = UINT64_MAX;
    Edit([&](::onnx::GraphProto& graph) {
      for (const ::onnx::TensorProto& tensor : graph.initializer()) {
        if (tensor.name() != name) continue;
        for (const auto& entry : tensor.external_data())
          if (entry.key() == "offset") offset = std::stoull(entry.value());
      }
    });
    ASSERT_NE(offset, UINT64_MAX) << name;
    std::fstream file(folder() / "model.onnx.data",
                      std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(offset + element * sizeof(float)));
    file.write(reinterpret_cast<const char*>(&value), sizeof(float));
    ASSERT_TRUE(file.flush());
  }

  Pair Refusal(const std::string& file) const {
    auto [code, text] = testing::Thrown([&] {
      const std::unique_ptr<StoredModel> model = Open();
      const WeightIndex index(*model);
    });
    const std::string path = (folder() / file).string() + ": ";
    EXPECT_TRUE(text.starts_with(path)) << text;
    return {code, text.substr(std::min(path.size(), text.size()))};
  }
  Pair Refusal() const { return Refusal("model.onnx"); }

  testing::TempFolder temp_;
};

const std::string kAttention =
    "node '/model/layers.0/attn/GroupQueryAttention': GroupQueryAttention ";

TEST_F(OnnxModel, ShowsAWrongTable) {
  EditFloat("model.rope.cos_cache_small", 3, 0.25F);
  EditFloat("model.rope.sin_cache_large", 9, -0.5F);
  const std::unique_ptr<StoredModel> model = Open();
  std::vector<float> cosines(33 * 8), sines(33 * 8);
  model->ReadRotary(32, std::span(cosines).first(256), std::span(sines).first(256));
  EXPECT_EQ(cosines[3], 0.25F);
  EXPECT_NE(sines[9], -0.5F);
  model->ReadRotary(33, cosines, sines);
  EXPECT_NE(cosines[3], 0.25F);
  EXPECT_EQ(sines[9], -0.5F);
}

TEST_F(OnnxModel, RefusesATableThatIsNotFinite) {
  EditFloat("model.rope.sin_cache_small", 17, NAN);
  const std::unique_ptr<StoredModel> model = Open();
  std::vector<float> cosines(8 * 8), sines(8 * 8);
  EXPECT_EQ(testing::Thrown([&] { model->ReadRotary(8, cosines, sines); }),
            Pair(ErrorCode::kBadData, folder().string() + ": tensor 'model.rope.sin_cache_small': "
                                                          "row 2, column 1 is nan"));
}

TEST_F(OnnxModel, RefusesATextThatIsLongerThanTheTable) {
  const std::unique_ptr<StoredModel> model = Open();
  std::vector<float> cosines(129 * 8), sines(129 * 8);
  EXPECT_EQ(testing::Thrown([&] { model->ReadRotary(129, cosines, sines); }),
            Pair(ErrorCode::kBadData,
                 folder().string() + ": tensor 'model.rope.cos_cache_large': has 128 rows, a text "
                                     "of 129 tokens needs as many"));
}

TEST_F(OnnxModel, NeedsNoGenaiConfig) {
  fs::remove(folder() / "genai_config.json");
  const std::unique_ptr<StoredModel> model = Open();
  EXPECT_EQ(model->config().max_position_embeddings, 128U);
  EXPECT_EQ(model->config().original_max_position_embeddings, 32U);
  EXPECT_EQ(model->config().n_kv_heads, 2U);
  EXPECT_EQ(model->config().bos_token_id, std::nullopt);
}

TEST_F(OnnxModel, NeedsTheContextToTellTwoTablesInOne) {
  Write("dml");
  fs::remove(folder() / "genai_config.json");
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kUnsupported,
                 "'cos_cache' of 160 rows holds two tables, and genai_config.json does not tell "
                 "their lengths (model.context_length)"));
}

TEST_F(OnnxModel, RefusesAGenaiConfigOfAnotherModel) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"num_hidden_layers", "2"}, {"hidden_size", "64"},        {"num_attention_heads", "4"},
      {"head_size", "16"},        {"num_key_value_heads", "2"},
  };
  for (const auto& [key, found] : cases) {
    const std::string before = testing::ReadTestJson(folder() / "genai_config.json").dump();
    EditGenai([&](nlohmann::json& json) { json["model"]["decoder"][key] = 8; });
    EXPECT_EQ(
        Refusal("genai_config.json"),
        Pair(ErrorCode::kBadData, "'model.decoder." + key + "' is 8, but the graph has " + found));
    testing::WriteTestFile(folder() / "genai_config.json", before);
  }
  EditGenai([](nlohmann::json& json) { json["model"]["context_length"] = -1; });
  EXPECT_EQ(Refusal("genai_config.json"),
            Pair(ErrorCode::kBadData,
                 "'model.context_length' is -1, needs a whole number from 2 "
                 "to 2147483647"));
}

TEST_F(OnnxModel, TakesTheWindowOfTheAttention) {
  Edit([](::onnx::GraphProto& graph) {
    for (::onnx::NodeProto& node : *graph.mutable_node())
      if (node.op_type() == "GroupQueryAttention") Attribute(node, "local_window_size").set_i(50);
  });
  EXPECT_EQ(Open()->config().sliding_window, 50U);
}

TEST_F(OnnxModel, RefusesAnotherAttention) {
  struct Case {
    std::string name;
    std::int64_t value;
    ErrorCode code;
    std::string wanted;
  };
  const std::vector<Case> cases = {
      {"num_heads", 0, ErrorCode::kBadData, "has num_heads 0, allowed are 1 to 1024"},
      {"num_heads", 1LL << 40, ErrorCode::kBadData,
       "has num_heads 1099511627776, allowed are 1 to 1024"},
      {"num_heads", 3, ErrorCode::kBadData, "has num_heads 3, needs a divisor of hidden_size 64"},
      {"kv_num_heads", -1, ErrorCode::kBadData, "has kv_num_heads -1, allowed are 1 to 4"},
      {"kv_num_heads", 3, ErrorCode::kBadData,
       "has kv_num_heads 3, needs a divisor of num_heads 4"},
      {"local_window_size", 0, ErrorCode::kBadData,
       "has local_window_size 0, allowed are 1 to 2147483647"},
      {"rotary_interleaved", 1, ErrorCode::kUnsupported, "has rotary_interleaved 1"},
      {"smooth_softmax", 1, ErrorCode::kUnsupported, "has smooth_softmax 1"}};
  ::onnx::NodeProto before;
  for (const Case& c : cases) {
    EditNode("GroupQueryAttention", [&](::onnx::NodeProto& node) {
      before = node;
      Attribute(node, c.name).set_i(c.value);
    });
    EXPECT_EQ(Refusal(), Pair(c.code, kAttention + c.wanted));
    EditNode("GroupQueryAttention", [&](::onnx::NodeProto& node) { node = before; });
  }
  EditNode("GroupQueryAttention",
           [](::onnx::NodeProto& node) { Attribute(node, "scale").set_f(0.5F); });
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kUnsupported, kAttention + "has scale 0.5, only 0.25 is supported"));
}

TEST_F(OnnxModel, RefusesLayersThatDiffer) {
  EditNode("GroupQueryAttention",
           [](::onnx::NodeProto& node) { Attribute(node, "local_window_size").set_i(50); });
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kUnsupported,
                 "node '/model/layers.1/attn/GroupQueryAttention': GroupQueryAttention has other "
                 "heads or another window than the layer before it"));
}

TEST_F(OnnxModel, RefusesAnEpsilonThatCannotBe) {
  const std::string node =
      "node '/model/layers.0/input_layernorm/LayerNorm': "
      "SimplifiedLayerNormalization ";
  EditNode("SimplifiedLayerNormalization",
           [](::onnx::NodeProto& n) { Attribute(n, "epsilon").set_f(NAN); });
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kBadData, node + "has epsilon nan, needs a finite number above 0"));
  EditNode("SimplifiedLayerNormalization",
           [](::onnx::NodeProto& n) { Attribute(n, "epsilon").set_f(1e-6F); });
  EXPECT_EQ(Refusal().first, ErrorCode::kUnsupported);  // the other norms have 1e-5
  EditNode("SimplifiedLayerNormalization", [](::onnx::NodeProto& n) { n.clear_attribute(); });
  EXPECT_EQ(Refusal(), Pair(ErrorCode::kBadData, node + "has no attribute 'epsilon'"));
}

TEST_F(OnnxModel, RefusesAGraphWithoutItsTablesOrWeights) {
  const auto rename = [&](const std::string& from, const std::string& to) {
    Edit([&](::onnx::GraphProto& graph) {
      for (::onnx::TensorProto& tensor : *graph.mutable_initializer())
        if (tensor.name() == from) tensor.set_name(to);
    });
  };
  rename("model.rope.sin_cache_large", "other");
  EXPECT_EQ(Refusal(), Pair(ErrorCode::kUnsupported, "has no rotary table 'sin_cache_large'"));
  rename("other", "model.rope.sin_cache_large");

  EditNode("Gather", [](::onnx::NodeProto& node) { node.set_op_type("Other"); });
  Edit([](::onnx::GraphProto& graph) {
    for (::onnx::NodeProto& node : *graph.mutable_node())
      if (node.name() == "/model/embed_tokens/Gather") node.set_op_type("Other");
  });
  EXPECT_EQ(Refusal(),
            Pair(ErrorCode::kUnsupported,
                 "has no weight 'model.embed_tokens.weight' (phiq evaluates its own ONNX folders "
                 "and those of onnxruntime-genai's builder)"));
}

TEST_F(OnnxModel, RefusesAWeightThatHasNoRole) {
  Edit([](::onnx::GraphProto& graph) {
    for (::onnx::NodeProto& node : *graph.mutable_node())
      if (node.name() == "/model/layers.1/mlp/up_proj/MatMul")
        node.set_name("/model/layers.1/mlp/side_proj/MatMul");
  });
  EXPECT_EQ(Refusal(), Pair(ErrorCode::kUnsupported,
                            "tensor 'model.layers.1.mlp.side_proj.MatMul.weight': "
                            "has no role in a Phi model of 2 layers"));
}

TEST_F(OnnxModel, RefusesTablesOfAnotherShape) {
  Edit([](::onnx::GraphProto& graph) {
    for (::onnx::TensorProto& tensor : *graph.mutable_initializer()) {
      if (tensor.name() != "model.rope.sin_cache_small") continue;
      tensor.set_dims(0, 8);
      tensor.set_dims(1, 32);
    }
  });
  EXPECT_EQ(Refusal(), Pair(ErrorCode::kBadData,
                            "tensor 'model.rope.sin_cache_small': rotary table is FLOAT x [8, 32], "
                            "needs floats of up to 8 columns (half a head), cosines as many as "
                            "sines"));
}

}  // namespace
}  // namespace phiq
