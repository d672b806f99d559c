// Everything that phiq does with a format, done with one that it does not have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "phiq/compare.h"
#include "phiq/convert.h"
#include "phiq/evaluate.h"
#include "phiq/inspect.h"
#include "phiq/profile.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kTiny = std::string(kTestData) + "/phi35-tiny";
const std::string kDown = "model.layers.1.mlp.down_proj.weight";

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ConvertOptions Options(const fs::path& output, const std::string& order = "model") {
  ConvertOptions options;
  options.model = kTiny;
  options.output = output.string();
  PlanOptions& target = options.targets.emplace_back();
  target.format = "rawrows";
  target.type = "raw";
  target.knobs["order"] = order;
  options.fsync = false;
  return options;
}

class RawRows : public ::testing::Test {
 protected:
  fs::path out() const { return temp_.path() / "out"; }
  std::vector<std::string> Problems() const {
    return Verify({out().string(), kTiny, {}, 2}, {}).problems;
  }

  testing::TempFolder temp_;
};

TEST_F(RawRows, AreAFormatAmongTheOthers) {
  EXPECT_THAT(FormatNames(), ElementsAre("gguf", "rawrows"));
  TargetRequest request;
  request.formats = {"gguf", "rawrows"};
  request.precision = Precision::kFp32;
  request.knobs = {{"order", "reverse", "rawrows"}};
  const std::vector<PlanOptions> targets = ResolveTargets(request);
  EXPECT_EQ(targets[0].type, "F32");
  EXPECT_EQ(targets[1].type, "raw");
  request.knobs = {{"order", "revers", "rawrows"}};
  try {
    ResolveTargets(request);
    ADD_FAILURE() << "no refusal";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "--order: 'revers' is not one of model, reverse (did you mean 'reverse'?)");
  }
}

TEST_F(RawRows, ArePlannedToTheByteAndWritten) {
  const OutputPlan planned = PlanOutput(Options(out()), {}).outputs.at(0);
  EXPECT_TRUE(planned.is_folder);
  EXPECT_EQ(planned.plan->bits_per_weight(), 32.0);
  Convert(Options(out()), {});
  std::uint64_t n_bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(out()))
    n_bytes += entry.file_size();
  EXPECT_EQ(n_bytes, planned.output_bytes);
}

// Against the checkpoint's own bytes.
TEST_F(RawRows, HoldTheCheckpointsNumbers) {
  for (const std::string order : {"model", "reverse"}) {
    fs::remove_all(out());
    Convert(Options(out(), order), {});
    const nlohmann::json index = nlohmann::json::parse(ReadBytes(out() / "index.json"));
    const std::string rows = ReadBytes(out() / "rows.f32");
    const Checkpoint checkpoint = OpenCheckpoint(LocateCheckpoint(kTiny, nullptr), nullptr);
    for (const nlohmann::json& weight : index.at("weights")) {
      const SourceTensor* source = checkpoint.Find(weight.at("name").get<std::string>());
      ASSERT_NE(source, nullptr);
      std::vector<std::uint16_t> stored(source->n_elements());
      checkpoint.Read(*source, 0, std::as_writable_bytes(std::span(stored)));
      const std::size_t offset = weight.at("offset");
      for (std::size_t i = 0; i < stored.size(); ++i) {
        float found = 0;
        std::memcpy(&found, rows.data() + offset + i * sizeof found, sizeof found);
        ASSERT_EQ(found, Bf16ToFloat(stored[i])) << weight.at("name") << " " << i;
      }
    }
    EXPECT_EQ(index.at("weights").at(0).at("name"),
              order == "model" ? "model.embed_tokens.weight" : "lm_head.weight");
  }
}

TEST_F(RawRows, AreInspected) {
  Convert(Options(out()), {});
  const Inspection found = Inspect(out().string(), {true, 2}, {});
  EXPECT_EQ(found.kind, "rawrows");
  EXPECT_THAT(found.metadata, ElementsAre(std::pair("type", "raw")));
  EXPECT_THAT(found.problems, IsEmpty());
  EXPECT_EQ(found.bits_per_weight(), 32.0);
  EXPECT_EQ(found.tensors.size(), 27U);  // 3 + 4 layers of 6
}

TEST_F(RawRows, AreVerified) {
  Convert(Options(out()), {});
  EXPECT_THAT(Problems(), IsEmpty());
  std::filesystem::remove(out() / "phiq.json");  // what is found is found by comparing
  const nlohmann::json index = nlohmann::json::parse(ReadBytes(out() / "index.json"));
  // One number is another.
  std::string rows = ReadBytes(out() / "rows.f32");
  rows[rows.size() / 2] = static_cast<char>(rows[rows.size() / 2] ^ 0x40);
  std::ofstream(out() / "rows.f32", std::ios::binary) << rows;
  ASSERT_EQ(Problems().size(), 1U);
  EXPECT_THAT(Problems()[0], HasSubstr("F32 decodes with relative RMSE"));
  // A weight is missing, another has no name that the model knows.
  Convert(
      [&] {
        ConvertOptions options = Options(out());
        options.force = true;
        return options;
      }(),
      {});
  std::filesystem::remove(out() / "phiq.json");
  nlohmann::json changed = index;
  for (nlohmann::json& weight : changed["weights"])
    if (weight["name"] == kDown) weight["name"] = "other";
  std::ofstream(out() / "index.json", std::ios::binary) << changed.dump();
  EXPECT_THAT(Problems(), ElementsAre("tensor 'other' has no counterpart in the source",
                                      "weight '" + kDown + "' is missing, or part of it"));
}

TEST_F(RawRows, KeepWhatBecameOfNan) {
  ConvertOptions options = Options(out());
  options.nan = NanPolicy::kZero;
  Convert(options, {});
  EXPECT_THAT(ReadBytes(out() / "index.json"), HasSubstr(R"("phiq.nan_policy":"zero")"));
  EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(RawRows, AreComparedAndEvaluated) {
  Convert(Options(out()), {});
  CompareOptions compare;
  compare.a = kTiny;
  compare.b = out().string();
  EXPECT_EQ(Compare(compare, {}).max_error, 0.0);
  EvalOptions options;
  options.models = {out().string()};
  options.reference = kTiny;
  options.text = std::string(kTestData) + "/heldout.txt";
  options.max_windows = 1;
  options.n_ctx = 32;
  const EvalReport report = Evaluate(options, {});
  EXPECT_EQ(report.models.at(0).kind, "rawrows");
  EXPECT_EQ(report.models.at(0).perplexity.value, report.reference->perplexity.value);
  EXPECT_EQ(report.models.at(0).divergence->mean_kl.value, 0.0);
}

TEST_F(RawRows, AreWrittenBesideAnotherFormatFromOneRead) {
  ConvertOptions options = Options(temp_.path() / "both");
  PlanOptions& gguf = options.targets.emplace_back();
  gguf.type = "Q8_0";
  const ConvertReport both = Convert(options, {});
  Convert(Options(out()), {});
  EXPECT_EQ(ReadBytes(temp_.path() / "both" / "phi35-tiny-rawrows-raw" / "rows.f32"),
            ReadBytes(out() / "rows.f32"));
  EXPECT_EQ(both.source_bytes, Convert(
                                   [&] {
                                     ConvertOptions again = Options(out());
                                     again.force = true;
                                     return again;
                                   }(),
                                   {})
                                   .source_bytes);
}

}  // namespace
}  // namespace phiq
