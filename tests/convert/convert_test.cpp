// Conversions of the tiny checkpoints as a library call.
#include "phiq/convert.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "formats/gguf/reader.h"
#include "formats/gguf/tokenizer.h"
#include "model/golden_token_ids.h"
#include "phiq/inspect.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

const std::string kTiny = std::string(kTestData) + "/phi35-tiny";

std::string ReadBytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ConvertOptions Options(const std::filesystem::path& output, std::string type) {
  ConvertOptions options;
  options.model = kTiny;
  options.output = output.string();
  options.targets.emplace_back().type = std::move(type);
  options.fsync = false;
  return options;
}

TEST(Convert, GivesTheSameBytesForAnyNumberOfThreads) {
  const testing::TempFolder folder;
  std::vector<std::string> outputs;
  for (const unsigned threads : {1U, 2U, 7U}) {
    ConvertOptions options = Options(folder.path() / "out.gguf", "Q4_K_M");
    options.threads = threads;
    options.force = true;
    Convert(options, {});
    outputs.push_back(ReadBytes(folder.path() / "out.gguf"));
  }
  EXPECT_EQ(outputs[0].substr(0, 4), "GGUF");
  EXPECT_TRUE(outputs[0] == outputs[1] && outputs[0] == outputs[2]);
}

TEST(Convert, WritesExactlyThePlannedSize) {
  const testing::TempFolder folder;
  const ConvertOptions options = Options(folder.path() / "out.gguf", "Q3_K_M");
  const OutputPlan plan = PlanOutput(options, {}).outputs.at(0);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "out.gguf"));
  const ConvertReport report = Convert(options, {});
  EXPECT_EQ(plan.output_bytes, std::filesystem::file_size(folder.path() / "out.gguf"));
  EXPECT_EQ(report.planned.outputs.at(0).output_bytes, plan.output_bytes);
  EXPECT_GT(report.relative_rmse.at(0), 0.01);
  EXPECT_LT(report.relative_rmse.at(0), 0.3);
}

// What an evaluation of the file begins with.
TEST(Convert, KeepsTheTokenIdsOfTheCheckpoint) {
  const testing::TempFolder folder;
  for (const std::string name : {"phi35-tiny", "phi4mini-tiny"}) {
    ConvertOptions options = Options(folder.path() / (name + ".gguf"), "Q4_0");
    options.model = std::string(kTestData) + "/" + name;
    Convert(options, {});
    const gguf::File file =
        gguf::File::Open(folder.path() / (name + ".gguf"), [](const Warning&) {});
    const TokenEncoder encoder(gguf::ReadTokenizer(file.metadata(), name), 2112);
    EXPECT_EQ(testing::DigestOfIds(encoder, {testing::HeldoutText()}),
              testing::GoldenTokenIds(name).at("heldout"));
  }
}

TEST(Convert, LeavesNothingWhenStopped) {
  const testing::TempFolder folder;
  Hooks hooks;
  hooks.stop_requested = [] { return true; };
  ConvertOptions options = Options(folder.path() / "out.gguf", "Q2_K");
  options.threads = 1;
  try {
    Convert(options, hooks);
    FAIL() << "was not stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInterrupted);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// What overflows F16 is known from the weights: a pass of its own, which a signal ends too.
TEST(Convert, StopsAndReportsWhileItSeeksWhatOverflows) {
  ConvertOptions options = Options("out.gguf", "F16");
  options.overflow = OverflowPolicy::kF32;
  std::uint64_t n_weights = 0;
  Hooks hooks;
  hooks.progress = [&](const Progress& progress) { n_weights = progress.total; };
  PlanOutput(options, hooks);
  EXPECT_GT(n_weights, 4'000'000U);
  hooks.stop_requested = [] { return true; };
  try {
    PlanOutput(options, hooks);
    FAIL() << "was not stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInterrupted);
  }
}

TEST(Convert, CountsTheBytesOfAllPasses) {
  const testing::TempFolder folder;
  ConvertOptions options = Options(folder.path() / "out.gguf", "F16");
  const std::uint64_t once = Convert(options, {}).source_bytes;
  options.force = true;
  options.overflow = OverflowPolicy::kF32;
  // All but the norms, which are F32 anyway.
  EXPECT_GT(Convert(options, {}).source_bytes, once + once / 2);
}

TEST(Convert, ReportsProgressUpToTheEnd) {
  const testing::TempFolder folder;
  std::vector<Progress> seen;
  Hooks hooks;
  hooks.progress = [&](const Progress& progress) { seen.push_back(progress); };
  Convert(Options(folder.path() / "out.gguf", "Q8_0"), hooks);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back().done, seen.back().total);
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_GE(seen[i].done, seen[i - 1].done);
}

TEST(Verify, AcceptsWhatConvertWroteAndNamesWhatWasChanged) {
  const testing::TempFolder folder;
  const std::filesystem::path out = folder.path() / "out.gguf";
  Convert(Options(out, "Q4_K_M"), {});
  EXPECT_TRUE(Verify({out.string(), kTiny, {}, 0}, {}).problems.empty());

  const std::string bytes = ReadBytes(out);
  const std::size_t at = bytes.find("<|assistant|>", bytes.find("tokenizer.chat_template"));
  ASSERT_NE(at, std::string::npos);
  std::string changed = bytes;
  changed[at + 2] = 'A';
  std::ofstream(out, std::ios::binary) << changed;
  const std::vector<std::string> problems = Verify({out.string(), kTiny, {}, 0}, {}).problems;
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_TRUE(problems[0].starts_with("the chat template differs from the source's: SHA-256 "));
  EXPECT_TRUE(problems[1].starts_with("file 'out.gguf': damaged or changed"));
}

TEST(Inspect, ReportsHowFarACheckIs) {
  std::vector<Progress> seen;
  Hooks hooks;
  hooks.progress = [&](const Progress& progress) { seen.push_back(progress); };
  EXPECT_TRUE(Inspect(kTiny, {.check = true}, hooks).problems.empty());
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back().done, 4'491'520U);
  EXPECT_EQ(seen.back().total, 4'491'520U);
}

TEST(Inspect, CountsTheWeightsOfACheckpoint) {
  const Inspection inspection = Inspect(kTiny, {}, {});
  EXPECT_EQ(inspection.kind, "checkpoint");
  EXPECT_EQ(inspection.n_weights,
            4'491'520U);  // summed from the shapes in the file's header by a script
  EXPECT_DOUBLE_EQ(inspection.bits_per_weight(), 16.0);
}

}  // namespace
}  // namespace phiq
