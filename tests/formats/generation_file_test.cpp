// generation_config.json of outputs, made from the tiny checkpoint's: there <|end|> is 2055 and
// ends a turn, config.json names 2048 alone.
#include "formats/generation_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "convert/open_model.h"
#include "formats/small_model.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::TempFolder;
using testing::Thrown;
using testing::WriteTestFile;

class GenerationFile : public ::testing::Test {
 protected:
  GenerationFile() {
    const fs::path tiny = fs::path(kTestData) / "phi35-tiny";
    for (const fs::directory_entry& entry : fs::directory_iterator(tiny)) {
      if (entry.is_regular_file()) fs::copy_file(entry, path(entry.path().filename().string()));
    }
  }
  fs::path path(const std::string& name) const { return folder_.path() / name; }

  // The content for a checkpoint with this generation_config.json; nullopt: none.
  std::string Make(const std::optional<std::string>& text) {
    fs::remove(path("generation_config.json"));
    if (text) WriteTestFile(path("generation_config.json"), *text);
    const SourceModel source = OpenSourceModel(LocateCheckpoint(folder_.path().string(), nullptr),
                                               {}, [](const Warning&) {});
    plan_ = Plan();
    const SideFile file = MakeGenerationConfig(source.stored->side_files(), source.model, plan_);
    EXPECT_EQ(file.name, "generation_config.json");
    return std::string(TextOf(file));
  }

  Plan plan_;

 private:
  TempFolder folder_;
};

TEST_F(GenerationFile, IsTheCheckpointsWhenItNamesEveryEnd) {
  for (const std::string text : {R"({"eos_token_id": [2055, 2049, 2048]})",
                                 "\n {\"eos_token_id\":[2055,2048],\n \"x\" : 1e-05 }\n",
                                 R"({"top_k":7,"eos_token_id":[2048,2055],"do_sample":true})"}) {
    EXPECT_EQ(Make(text), text);
    EXPECT_THAT(plan_.decisions, IsEmpty());
  }
}

TEST_F(GenerationFile, GetsTheEndOfATurnThatItLacks) {
  EXPECT_EQ(Make(R"({"zeta": 0.5, "eos_token_id": 2048, "alpha": [1]})"),
            "{\n  \"zeta\": 0.5,\n  \"eos_token_id\": [\n    2048,\n    2055\n  ],\n"
            "  \"alpha\": [\n    1\n  ]\n}\n");
  ASSERT_THAT(plan_.decisions, SizeIs(1));
  EXPECT_EQ(plan_.decisions[0].subject, "generation_config.json: eos_token_id");
  EXPECT_EQ(plan_.decisions[0].value, "+2055");
  EXPECT_THAT(plan_.decisions[0].reason, HasSubstr("<|end|> ends a turn"));
}

TEST_F(GenerationFile, TakesConfigJsonsEndWhereItNamesNone) {
  EXPECT_EQ(Make("{}"), "{\n  \"eos_token_id\": [\n    2048,\n    2055\n  ]\n}\n");
  ASSERT_THAT(plan_.decisions, SizeIs(2));
  EXPECT_EQ(plan_.decisions[0].value, "[2048, 2055]");
  EXPECT_EQ(plan_.decisions[1].value, "+2055");
}

TEST_F(GenerationFile, IsNewWhereThereIsNone) {
  EXPECT_EQ(Make(std::nullopt),
            "{\n  \"bos_token_id\": 1,\n  \"pad_token_id\": 2048,\n"
            "  \"eos_token_id\": [\n    2048,\n    2055\n  ]\n}\n");
  ASSERT_THAT(plan_.decisions, SizeIs(2));
  EXPECT_EQ(plan_.decisions[0].subject, "generation_config.json");
  EXPECT_EQ(plan_.decisions[0].value, "new");
  EXPECT_EQ(plan_.decisions[1].value, "+2055");
}

TEST_F(GenerationFile, RefusesEndsThatAreNoTokens) {
  for (const char* id : {"2112", "[2055, 2112]", "-2", "\"2055\"", "1.5", "[[1]]"}) {
    const auto [code, text] = Thrown([&] { Make(std::string(R"({"eos_token_id": )") + id + "}"); });
    EXPECT_EQ(code, ErrorCode::kBadData) << id;
    EXPECT_THAT(text, HasSubstr("'eos_token_id' is "));
    EXPECT_THAT(text, HasSubstr("token ids below 2112"));
  }
}

}  // namespace
}  // namespace phiq
