// Both tiny checkpoints against the listing of what llama.cpp's converter writes for them
// (tests/data/PROVENANCE.d/gguf.md). Each difference that we want is in WantedDifferences.
#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/half.h"
#include "base/sha256.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/plan.h"
#include "formats/gguf/tensor_names.h"
#include "phiq/checkpoint.h"
#include "testing/test_data.h"

namespace phiq::gguf {
namespace {

using nlohmann::json;

void IgnoreWarning(const Warning&) {}

// What becomes of a checkpoint as F32, up to the bytes of its tensors.
struct Converted {
  Checkpoint checkpoint;
  Model model;
  std::unique_ptr<Plan> plan;
  Metadata metadata;
  OutputLayout layout;
};

Converted Convert(const std::string& name) {
  const CheckpointFolder folder =
      LocateCheckpoint(std::string(kTestData) + "/" + name, IgnoreWarning);
  Checkpoint checkpoint = OpenCheckpoint(folder, IgnoreWarning);
  Model model =
      DescribeModel(folder, ReadModelConfig(folder, IgnoreWarning), checkpoint, {}, IgnoreWarning);
  PlanOptions options;
  options.type = "F32";
  std::unique_ptr<Plan> plan = MakePlan(model, options, IgnoreWarning);
  Metadata metadata = BuildMetadata(model, *plan, {}, IgnoreWarning);
  OutputLayout layout = MakeLayout(*plan, metadata, std::nullopt);
  return {std::move(checkpoint), std::move(model), std::move(plan), std::move(metadata),
          std::move(layout)};
}

json ReadGolden(const std::string& name) {
  std::ifstream in(std::string(kTestData) + "/golden/gguf/" + name + ".json");
  if (!in) throw std::runtime_error("no golden listing of " + name);
  return json::parse(in);
}

// Our key -> the value we want there, and why it is not the converter's.
std::map<std::string, json> WantedDifferences(const std::string& name) {
  return {
      // The folder's own name: the converter's title case turns the hyphen of "Phi-3" into a space,
      // and the hyphen is what tells llama.cpp to strip white space after role tokens.
      {"general.name", {"string", name}},
      // llama.cpp otherwise picks the first end-of-turn text that it meets in a hash map.
      {"tokenizer.ggml.eot_token_id", {"uint32", name == "phi35-tiny" ? 2055 : 2051}},
  };
}

std::string GoldenTypeName(ValueType type) {
  const std::map<ValueType, std::string> kNames = {
      {ValueType::kU32, "uint32"}, {ValueType::kI32, "int32"},     {ValueType::kF32, "float32"},
      {ValueType::kBool, "bool"},  {ValueType::kString, "string"},
  };
  return kNames.at(type);
}

template <typename T>
void AppendElement(const T& element, std::string& out) {
  out.append(reinterpret_cast<const char*>(&element), sizeof(T));
}
void AppendElement(const std::string& element, std::string& out) {
  AppendElement(static_cast<std::uint64_t>(element.size()), out);
  out += element;
}

template <typename T>
json Summary(const std::vector<T>& array) {
  std::string bytes;
  for (const auto& element : array) AppendElement(static_cast<const T&>(element), bytes);
  return {{"count", array.size()},
          {"sha256", Sha256Hex(bytes)},
          {"first", std::vector<T>(array.begin(), array.begin() + 3)},
          {"last", std::vector<T>(array.end() - 3, array.end())}};
}

// [type, value] in the listing's form.
json Listed(const Value& value) {
  const std::string element = GoldenTypeName(ElementTypeOf(value));
  return std::visit(
      [&]<typename T>(const T& content) -> json {
        if constexpr (kIsArray<T>) {
          return {"[" + element + "]", Summary(content)};
        } else {
          return {element, content};
        }
      },
      value);
}

class GgufGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GgufGolden, MetadataEqualsTheConvertersButForTheListedDifferences) {
  const Converted ours = Convert(GetParam());
  const json golden = ReadGolden(GetParam());
  std::map<std::string, json> expected;
  for (const json& record : golden["metadata"]) expected[record[0]] = {record[1], record[2]};
  for (const auto& [key, value] : WantedDifferences(GetParam())) {
    EXPECT_NE(expected[key], value) << key << " is no difference any more";
    expected[key] = value;
  }
  std::map<std::string, json> found;
  for (const auto& [key, value] : ours.metadata) found[key] = Listed(value);
  for (const auto& [key, value] : expected) EXPECT_EQ(found[key], value) << key;
  EXPECT_EQ(found.size(), expected.size());
}

// The tensor as F32: what the converter wrote.
std::string FloatBytes(const Converted& ours, const PlanLine& line) {
  std::vector<float> weights;
  if (line.table) {
    weights = line.name == "config:long_factor" ? ours.model.config.long_factor
                                                : ours.model.config.short_factor;
  } else {
    const SourceTensor& source = *ours.checkpoint.Find(line.name);
    std::vector<std::uint16_t> halves(source.size_bytes / 2);
    ours.checkpoint.Read(source, 0, std::as_writable_bytes(std::span(halves)));
    for (const std::uint16_t half : halves) weights.push_back(Bf16ToFloat(half));
  }
  return std::string(reinterpret_cast<const char*>(weights.data()), weights.size() * sizeof(float));
}

TEST_P(GgufGolden, TensorsEqualTheConverters) {
  const Converted ours = Convert(GetParam());
  const json golden = ReadGolden(GetParam());
  std::map<std::string, json> expected;
  for (const json& tensor : golden["tensors"]) expected[tensor["name"]] = tensor;
  ASSERT_EQ(ours.layout.files.size(), 1U);
  const PlacedFile& file = ours.layout.files[0];
  EXPECT_EQ(ours.layout.arrays.size(), expected.size());
  EXPECT_EQ(file.size_bytes - file.head.size(), golden["data_bytes"]);
  for (const PlacedArray& placed : ours.layout.arrays) {
    const PlanLine& line = ours.plan->lines[placed.line];
    const std::string name = TensorName(line);
    const json& tensor = expected[name];
    EXPECT_EQ(tensor["type"], "F32") << name;
    EXPECT_EQ(tensor["ne"], (std::vector<std::uint64_t>(line.shape.rbegin(), line.shape.rend())))
        << name;
    EXPECT_EQ(tensor["size"], line.size_bytes) << name;
    EXPECT_EQ(tensor["sha256"], Sha256Hex(FloatBytes(ours, line))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, GgufGolden,
                         ::testing::Values("phi35-tiny", "phi4mini-tiny"), [](const auto& test) {
                           return test.param.substr(0, test.param.find('-'));
                         });

}  // namespace
}  // namespace phiq::gguf
