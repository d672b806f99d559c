// Order and shards of MLX folders, for the true shapes of the published models. What mlx-lm does is
// worked out here again: its parameters in the order of its modules, a new shard before the tensor
// that would take one beyond 5 GiB.
#include "formats/mlx/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "convert/open_model.h"
#include "testing/header_only_checkpoint.h"

namespace phiq::mlx {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::HeaderOnlyCheckpoint;
using ::testing::IsSupersetOf;
using ::testing::Not;

struct Type {
  std::string name;
  std::uint64_t bits = 0, group_size = 0, bytes_per_scale = 0;  // no bits: BF16
  bool has_biases = false;
};
const Type kBf16 = {"BF16"};
const Type k4Bit = {"4bit", 4, 64, 2, true};
const Type k8Bit = {"8bit", 8, 64, 2, true};
const Type kMxfp4 = {"mxfp4", 4, 32, 1, false};

struct NamedSize {
  std::string name;
  std::uint64_t size_bytes = 0;
  bool operator==(const NamedSize&) const = default;
};
std::ostream& operator<<(std::ostream& out, const NamedSize& tensor) {
  return out << tensor.name << " (" << tensor.size_bytes << ")";
}
using Shards = std::vector<std::vector<NamedSize>>;

std::uint64_t SizeBytes(const std::vector<NamedSize>& tensors) {
  std::uint64_t sum = 0;
  for (const NamedSize& tensor : tensors) sum += tensor.size_bytes;
  return sum;
}

class MlxLm {
 public:
  MlxLm(const nlohmann::json& config, Type type) : type_(std::move(type)) {
    const auto get = [&](const char* key) { return config.at(key).get<std::uint64_t>(); };
    const std::uint64_t hidden = get("hidden_size"), inner = get("intermediate_size");
    const std::uint64_t kv = hidden / get("num_attention_heads") * get("num_key_value_heads");
    Matrix("model.embed_tokens", get("vocab_size"), hidden);
    for (std::uint64_t i = 0; i < get("num_hidden_layers"); ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      Matrix(layer + "self_attn.qkv_proj", hidden + 2 * kv, hidden);
      Matrix(layer + "self_attn.o_proj", hidden, hidden);
      Matrix(layer + "mlp.gate_up_proj", 2 * inner, hidden);
      Matrix(layer + "mlp.down_proj", hidden, inner);
      Add(layer + "input_layernorm.weight", hidden * 2);
      Add(layer + "post_attention_layernorm.weight", hidden * 2);
    }
    Add("model.norm.weight", hidden * 2);
    if (!config.value("tie_word_embeddings", false)) Matrix("lm_head", get("vocab_size"), hidden);
  }

  Shards shards() const { return shards_; }

 private:
  void Matrix(const std::string& module, std::uint64_t rows, std::uint64_t columns) {
    if (type_.bits == 0) return Add(module + ".weight", rows * columns * 2);
    Add(module + ".weight", rows * columns * type_.bits / 8);
    const std::uint64_t groups = rows * columns / type_.group_size;
    Add(module + ".scales", groups * type_.bytes_per_scale);
    if (type_.has_biases) Add(module + ".biases", groups * type_.bytes_per_scale);
  }

  void Add(std::string name, std::uint64_t size_bytes) {
    if (SizeBytes(shards_.back()) + size_bytes > 5368709120) shards_.emplace_back();
    shards_.back().push_back({std::move(name), size_bytes});
  }

  Type type_;
  Shards shards_{1};
};

struct MadeLayout {
  MadeLayout(const HeaderOnlyCheckpoint& checkpoint, const Type& type)
      : source(OpenSourceModel(LocateCheckpoint(checkpoint.path().string(), nullptr), {},
                               [](const Warning&) {})) {
    PlanOptions options;
    options.format = "mlx";
    options.type = type.name;
    plan = *MakePlan(source.model, options, [](const Warning&) {});
    layout = MakeLayout(source.stored->side_files(), source.model, plan);
  }

  SourceModel source;
  FolderPlan plan;
  OutputLayout layout;
};

// What the header of a shard says, in its own order.
nlohmann::ordered_json HeaderOf(const PlacedFile& file) {
  std::uint64_t n_bytes = 0;  // little-endian, as the machines that the tests run on
  std::memcpy(&n_bytes, file.head.data(), sizeof n_bytes);
  EXPECT_EQ(file.head.size(), 8 + n_bytes);
  const std::string text(reinterpret_cast<const char*>(file.head.data()) + 8, n_bytes);
  nlohmann::ordered_json header = nlohmann::ordered_json::parse(text);
  header.erase("__metadata__");
  return header;
}

bool IsShard(const PlacedFile& file) { return file.name.ends_with(".safetensors"); }

Shards ShardsOf(const OutputLayout& layout) {
  Shards shards;
  for (const PlacedFile& file : layout.files) {
    if (!IsShard(file)) continue;
    shards.emplace_back();
    std::uint64_t end = 0;
    const nlohmann::ordered_json header = HeaderOf(file);
    for (const auto& [name, entry] : header.items()) {
      EXPECT_EQ(entry.at("data_offsets").at(0), end) << name;
      end = entry.at("data_offsets").at(1).get<std::uint64_t>();
      shards.back().push_back({name, end - entry.at("data_offsets").at(0).get<std::uint64_t>()});
    }
    EXPECT_EQ(file.size_bytes, file.head.size() + end) << file.name;
  }
  return shards;
}

std::vector<std::size_t> Counts(const Shards& shards) {
  std::vector<std::size_t> counts;
  for (const auto& shard : shards) counts.push_back(shard.size());
  return counts;
}

TEST(MlxLayout, HasMlxLmsOrderAndShards) {
  for (const char* name : {"Phi-3.5-mini-instruct", "Phi-4", "Phi-4-mini-instruct"}) {
    const HeaderOnlyCheckpoint checkpoint(name);
    for (const Type& type : {kBf16, k8Bit, k4Bit, kMxfp4}) {
      SCOPED_TRACE(std::string(name) + " " + type.name);
      const MadeLayout made(checkpoint, type);
      EXPECT_EQ(ShardsOf(made.layout), MlxLm(checkpoint.config(), type).shards());
    }
  }
}

TEST(MlxLayout, BeginsAShardInTheMiddleOfALayer) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4");
  const Shards shards = ShardsOf(MadeLayout(checkpoint, k4Bit).layout);
  // As mlx-lm 0.32.2 cuts it.
  ASSERT_THAT(Counts(shards), ElementsAre(373, 194));
  EXPECT_EQ(SizeBytes(shards[0]), 5310423040U);
  EXPECT_EQ(SizeBytes(shards[1]), 2936145920U);
  EXPECT_EQ(shards[0].back().name, "model.layers.26.self_attn.o_proj.biases");
  EXPECT_EQ(shards[1].front().name, "model.layers.26.mlp.gate_up_proj.weight");
}

TEST(MlxLayout, NamesShardsByTheirCount) {
  const auto names_of = [](const char* model, const Type& type) {
    const HeaderOnlyCheckpoint checkpoint(model);
    const MadeLayout made(checkpoint, type);
    std::vector<std::string> names;
    for (const PlacedFile& file : made.layout.files)
      if (IsShard(file)) names.push_back(file.name);
    return names;
  };
  EXPECT_THAT(names_of("Phi-3.5-mini-instruct", k4Bit), ElementsAre("model.safetensors"));
  EXPECT_THAT(names_of("Phi-3.5-mini-instruct", kBf16),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  EXPECT_EQ(names_of("Phi-4", kBf16).size(), 6U);
  EXPECT_EQ(names_of("Phi-4", kBf16).back(), "model-00006-of-00006.safetensors");
}

TEST(MlxLayout, StartsWithTheModulesInMlxLmsOrder) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4-mini-instruct");
  const Shards shards = ShardsOf(MadeLayout(checkpoint, k4Bit).layout);
  ASSERT_EQ(shards.size(), 1U);
  std::vector<std::string> names;
  for (const NamedSize& tensor : shards[0]) names.push_back(tensor.name);
  ASSERT_EQ(names.size(), 452U);
  EXPECT_THAT(
      std::vector(names.begin(), names.begin() + 18),
      ElementsAre(
          "model.embed_tokens.weight", "model.embed_tokens.scales", "model.embed_tokens.biases",
          "model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.self_attn.qkv_proj.scales",
          "model.layers.0.self_attn.qkv_proj.biases", "model.layers.0.self_attn.o_proj.weight",
          "model.layers.0.self_attn.o_proj.scales", "model.layers.0.self_attn.o_proj.biases",
          "model.layers.0.mlp.gate_up_proj.weight", "model.layers.0.mlp.gate_up_proj.scales",
          "model.layers.0.mlp.gate_up_proj.biases", "model.layers.0.mlp.down_proj.weight",
          "model.layers.0.mlp.down_proj.scales", "model.layers.0.mlp.down_proj.biases",
          "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
          "model.layers.1.self_attn.qkv_proj.weight"));
  EXPECT_EQ(names.back(), "model.norm.weight");  // the head is tied
}

// The offsets that encoders write to are those that headers tell readers.
TEST(MlxLayout, PlacesEveryArrayWhereTheHeaderSays) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4");
  for (const Type& type : {k4Bit, kMxfp4, kBf16}) {
    const MadeLayout made(checkpoint, type);
    std::size_t n_arrays = 0;
    for (const PlacedArray& array : made.layout.arrays) {
      const PlacedFile& file = made.layout.files.at(array.file);
      std::string name = made.plan.lines.at(array.line).name;
      if (array.array != 0)
        name = name.substr(0, name.size() - 6) + (array.array == 1 ? "scales" : "biases");
      const nlohmann::ordered_json header = HeaderOf(file);
      ASSERT_TRUE(header.contains(name)) << name << " in " << file.name;
      EXPECT_EQ(array.offset_bytes,
                file.head.size() + header.at(name).at("data_offsets").at(0).get<std::uint64_t>())
          << name;
      EXPECT_EQ(array.padding_bytes, 0U);
      EXPECT_EQ(array.order, Order());
      ++n_arrays;
    }
    std::size_t n_tensors = 0;
    for (const std::size_t count : Counts(ShardsOf(made.layout))) n_tensors += count;
    EXPECT_EQ(n_arrays, n_tensors);
    EXPECT_TRUE(std::ranges::is_sorted(made.layout.arrays, {}, [](const PlacedArray& array) {
      return std::pair(array.file, array.offset_bytes);
    }));
  }
}

TEST(MlxLayout, IndexNamesTheShardOfEveryTensor) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4");
  const MadeLayout made(checkpoint, k4Bit);
  const nlohmann::json index = nlohmann::json::parse(MakeIndex(made.plan));
  EXPECT_EQ(index.at("metadata").at("total_size"), 8246568960U);
  EXPECT_EQ(index.at("metadata").at("total_parameters"), 14659507200U);
  nlohmann::json wanted;
  const Shards shards = MlxLm(checkpoint.config(), k4Bit).shards();
  ASSERT_EQ(shards.size(), 2U);
  for (const NamedSize& tensor : shards[0])
    wanted[tensor.name] = "model-00001-of-00002.safetensors";
  for (const NamedSize& tensor : shards[1])
    wanted[tensor.name] = "model-00002-of-00002.safetensors";
  EXPECT_EQ(index.at("weight_map"), wanted);
}

TEST(MlxLayout, RenamesConfigJsonLast) {
  const HeaderOnlyCheckpoint checkpoint("Phi-3.5-mini-instruct");
  const OutputLayout layout = MadeLayout(checkpoint, k4Bit).layout;
  EXPECT_TRUE(layout.is_folder);
  EXPECT_EQ(layout.files.at(layout.root).name, "config.json");
}

TEST(MlxLayout, OwnsWhatItMayWriteAndNothingElse) {
  const HeaderOnlyCheckpoint checkpoint("Phi-3.5-mini-instruct");
  testing::WriteTestFile(checkpoint.path() / "modeling_phi3.py", "import torch\n");
  const std::vector<std::string> owned =
      OwnedFiles(LocateCheckpoint(checkpoint.path().string(), nullptr));
  EXPECT_THAT(owned, IsSupersetOf({"model.safetensors", "model-00001-of-00002.safetensors",
                                   "model-00064-of-00064.safetensors", "config.json", "README.md",
                                   "model.safetensors.index.json", "modeling_phi3.py"}));
  for (const char* foreign :
       {"model-00002-of-00001.safetensors", "model-00000-of-00002.safetensors",
        "model-00001-of-00001.safetensors", "adapters.safetensors", "mine.py", "LICENSE"})
    EXPECT_THAT(owned, Not(Contains(foreign)));
  const MadeLayout made(checkpoint, kBf16);
  for (const PlacedFile& file : made.layout.files) EXPECT_THAT(owned, Contains(file.name));
}

}  // namespace
}  // namespace phiq::mlx
