// Files beside a model, changed one at a time.
#include "formats/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "formats/small_model.h"
#include "testing/header_only_checkpoint.h"

namespace phiq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TempFolder;
using testing::Thrown;
using testing::WriteTestFile;

class SideFiles : public ::testing::Test {
 protected:
  SideFiles() {
    WriteTestFile(path() / "a.json", "{}");
    WriteTestFile(path() / "b.txt", "text\n");
  }
  const std::filesystem::path& path() const { return folder_.path(); }
  std::vector<std::string> Compare(const SideFileComparison& compare = CompareBytes) const {
    return CompareSideFiles(expected_, possible_, path(), compare);
  }

  std::vector<SideFile> expected_ = {{"a.json", BytesOf("{}")}, {"b.txt", BytesOf("text\n")}};
  std::vector<std::string_view> possible_ = {"a.json", "b.txt", "c.txt"};

 private:
  TempFolder folder_;
};

TEST_F(SideFiles, EqualFilesHaveNoDifferences) { EXPECT_THAT(Compare(), IsEmpty()); }

TEST_F(SideFiles, EachDifferenceIsALine) {
  std::filesystem::remove(path() / "a.json");
  WriteTestFile(path() / "b.txt", "text");
  WriteTestFile(path() / "c.txt", "");
  EXPECT_THAT(Compare(),
              ElementsAre("a.json is missing", "b.txt differs from what the source gives",
                          "c.txt has no counterpart in the source"));
}

TEST_F(SideFiles, OneByteIsADifference) {
  using namespace std::string_literals;
  for (const std::string& text : {""s, "text"s, "text\n\n"s, "Text\n"s, "text\0"s}) {
    WriteTestFile(path() / "b.txt", text);
    EXPECT_THAT(Compare(), ElementsAre("b.txt differs from what the source gives")) << text;
  }
}

TEST_F(SideFiles, FilesOfOtherNamesDoNotMatter) {
  WriteTestFile(path() / "d.txt", "");
  EXPECT_THAT(Compare(), IsEmpty());
}

TEST_F(SideFiles, AFormatMayCompareInItsOwnWay) {
  const SideFileComparison compare = [](const SideFile& file, std::string_view found) {
    if (file.name == "a.json") return std::vector<std::string>();
    return std::vector<std::string>{std::string(TextOf(file)), std::string(found)};
  };
  WriteTestFile(path() / "a.json", "[]");
  WriteTestFile(path() / "b.txt", "other");
  EXPECT_THAT(Compare(compare), ElementsAre("text\n", "other"));
}

TEST_F(SideFiles, WhatCannotBeReadIsNoDifference) {
  std::filesystem::remove(path() / "b.txt");
  std::filesystem::create_directory(path() / "b.txt");
  EXPECT_EQ(Thrown([&] { Compare(); }).first, ErrorCode::kInput);
  std::filesystem::remove(path() / "b.txt");
  WriteTestFile(path() / "b.txt", "");
  std::filesystem::resize_file(path() / "b.txt", (256U << 20) + 1);  // of holes
  const auto [code, text] = Thrown([&] { Compare(); });
  EXPECT_EQ(code, ErrorCode::kBadData);
  EXPECT_THAT(text, HasSubstr("b.txt"));
}

TEST(SideFile, TextIsItsBytes) {
  const std::string text("a\0\xff", 3);
  EXPECT_EQ(TextOf({"x", BytesOf(text)}), text);
  EXPECT_EQ(TextOf({"x", {}}), "");
}

}  // namespace
}  // namespace phiq
