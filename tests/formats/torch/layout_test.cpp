// Shards of PyTorch folders, for the true shapes of a published model: what a header says of each
// tensor, worked out from the format's rules, and what of it is known before a weight is read.
#include "formats/torch/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "convert/open_model.h"
#include "testing/header_only_checkpoint.h"

namespace phiq::torch {
namespace {

using ::testing::ElementsAre;
using testing::HeaderOnlyCheckpoint;

struct MadeLayout {
  MadeLayout(const char* model, const char* type)
      : checkpoint(model),
        source(OpenSourceModel(LocateCheckpoint(checkpoint.path().string(), nullptr), {},
                               [](const Warning&) {})) {
    PlanOptions options;
    options.format = "torch";
    options.type = type;
    plan = *MakePlan(source.model, options, [](const Warning&) {});
    layout = MakeLayout(source.stored->side_files(), source.model, plan);
  }

  HeaderOnlyCheckpoint checkpoint;
  SourceModel source;
  FolderPlan plan;
  OutputLayout layout;
};

std::uint64_t NumberAt(const PlacedFile& file, std::size_t offset_bytes) {
  std::uint64_t number = 0;  // little-endian, as the machines that the tests run on
  std::memcpy(&number, file.head.data() + offset_bytes, sizeof number);
  return number;
}

nlohmann::ordered_json HeaderOf(const PlacedFile& file) {
  const std::string text(reinterpret_cast<const char*>(file.head.data()) + 8, NumberAt(file, 0));
  return nlohmann::ordered_json::parse(text);
}

bool IsShard(const PlacedFile& file) { return file.name.ends_with(".safetensors"); }

// The same tensor in every box: rows of 17920, 5120 of them.
constexpr const char* kModule = "model.layers.39.mlp.down_proj.";

std::map<std::string, std::string> TensorsOf(const OutputLayout& layout) {
  std::map<std::string, std::string> tensors;
  for (const PlacedFile& file : layout.files) {
    if (!IsShard(file)) continue;
    const nlohmann::ordered_json header = HeaderOf(file);
    for (const auto& [name, entry] : header.items())
      if (name.starts_with(kModule))
        tensors[name.substr(std::strlen(kModule))] =
            entry.at("dtype").get<std::string>() + entry.at("shape").dump();
  }
  return tensors;
}

TEST(TorchLayout, HasTheTensorsOfEachBox) {
  using Tensors = std::map<std::string, std::string>;
  EXPECT_EQ(TensorsOf(MadeLayout("Phi-4", "W4A16").layout),
            (Tensors{{"weight_packed", "I32[5120,2240]"},
                     {"weight_scale", "BF16[5120,140]"},
                     {"weight_shape", "I64[2]"}}));
  EXPECT_EQ(TensorsOf(MadeLayout("Phi-4", "W8A8").layout),
            (Tensors{{"weight", "I8[5120,17920]"}, {"weight_scale", "BF16[5120,1]"}}));
  EXPECT_EQ(TensorsOf(MadeLayout("Phi-4", "GPTQ-Int4").layout),
            (Tensors{{"qweight", "I32[2240,5120]"},
                     {"scales", "BF16[140,5120]"},
                     {"qzeros", "I32[140,640]"},
                     {"g_idx", "I32[17920]"}}));
  EXPECT_EQ(TensorsOf(MadeLayout("Phi-4", "AWQ").layout), (Tensors{{"qweight", "I32[17920,640]"},
                                                                   {"scales", "BF16[140,5120]"},
                                                                   {"qzeros", "I32[140,640]"}}));
}

TEST(TorchLayout, CutsShardsAtFiveGigabytes) {
  const MadeLayout made("Phi-4", "W4A16");
  std::vector<std::string> names;
  std::uint64_t tensor_bytes = 0;
  for (const PlacedFile& file : made.layout.files) {
    if (!IsShard(file)) continue;
    names.push_back(file.name);
    const std::uint64_t n_bytes = file.size_bytes - 8 - NumberAt(file, 0);
    EXPECT_LE(n_bytes, 5'000'000'000U);
    tensor_bytes += n_bytes;
    // Each tensor at a multiple of its element's size, the largest first.
    std::uint64_t end = 0;
    const nlohmann::ordered_json header = HeaderOf(file);
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        EXPECT_EQ(entry.dump(), R"({"format":"pt"})");
        continue;
      }
      EXPECT_EQ(entry.at("data_offsets").at(0), end) << name;
      end = entry.at("data_offsets").at(1).get<std::uint64_t>();
    }
    EXPECT_EQ(end, n_bytes);
  }
  EXPECT_THAT(names,
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  // Two numbers for each of 160 matrices besides the lines of the plan.
  EXPECT_EQ(tensor_bytes, made.plan.data_bytes() + 160 * 16);
  const auto index = nlohmann::json::parse(MakeIndex(made.plan));
  EXPECT_EQ(index["metadata"]["total_size"], tensor_bytes);
  EXPECT_EQ(index["weight_map"].size(), 160 * 3 + 80 + 3);
  EXPECT_EQ(MakeIndex(MadeLayout("Phi-4-mini-instruct", "W4A16").plan), "");
}

TEST(TorchLayout, KnowsTheShapesBeforeAnyWeight) {
  const MadeLayout made("Phi-4-mini-instruct", "W4A16");
  const PlacedFile& file = made.layout.files.front();
  const auto entry = HeaderOf(file).at("model.layers.3.mlp.down_proj.weight_shape");
  const std::uint64_t at = 8 + NumberAt(file, 0) + entry["data_offsets"][0].get<std::uint64_t>();
  EXPECT_EQ(NumberAt(file, at), 3072U);
  EXPECT_EQ(NumberAt(file, at + 8), 8192U);
  // Arrays begin behind what is known.
  for (const PlacedArray& array : made.layout.arrays)
    EXPECT_GE(array.offset_bytes, made.layout.files[array.file].head.size());
}

}  // namespace
}  // namespace phiq::torch
