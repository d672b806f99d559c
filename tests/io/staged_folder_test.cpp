// A folder appears whole or not at all.
#include <gmock/gmock.h>

#include "io/outputs.h"
#include "io/temp_folder.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::EndsWith;
using testing::IsEmpty;
using testing::StartsWith;

const OutputOptions kForce = {.force = true};
const std::vector<std::string> kOwned = {"data", "root", "extra"};

void Fill(StagedFolder& folder, const std::string& text) {
  for (const std::string name : {"data", "root"}) {
    folder.Create(name, text.size()).WriteAt(0, Bytes(text));
  }
}

TEST(StagedFolder, AppearsWholeAtCommit) {
  const TempFolder folder;
  const mode_t mask = ::umask(022);
  {
    Outputs outputs({});
    Fill(outputs.AddFolder(folder / "out", kOwned), "new");
    EXPECT_THAT(folder.List(), ElementsAre(StartsWith(".out.phiq-tmp."), StartsWith(".phiq-run.")));
    outputs.Commit();
  }
  ::umask(mask);
  EXPECT_THAT(folder.List(), ElementsAre("out"));
  EXPECT_EQ(ReadText(folder / "out/data"), "new");
  EXPECT_EQ(ReadText(folder / "out/root"), "new");
  EXPECT_EQ(ModeOf(folder / "out"), 0755U);
  EXPECT_EQ(ModeOf(folder / "out/data"), 0644U);
}

TEST(StagedFolder, LeavesNothingWithoutCommit) {
  const TempFolder folder;
  {
    Outputs outputs({});
    Fill(outputs.AddFolder(folder / "out", kOwned), "new");
  }
  EXPECT_THAT(folder.List(), IsEmpty());
}

TEST(StagedFolder, RefusesToReplaceWithoutForce) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  EXPECT_EQ(ErrorOf(ErrorCode::kOutput, [&] { const StagedFolder s(folder / "out", kOwned, {}); }),
            (folder / "out").native() + ": exists (--force replaces it)");
}

// Before anything is written: the temporary's own name is cut, and would fit.
TEST(StagedFolder, RefusesANameThatIsTooLong) {
  const TempFolder folder;
  const fs::path path = folder / std::string(256, 'n');
  const auto wanted = EndsWith("...: File name too long");
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { StagedFolder::Check(path, kOwned, {}); }), wanted);
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { const StagedFolder s(path, kOwned, {}); }), wanted);
  EXPECT_THAT(folder.List(), IsEmpty());
}

TEST(StagedFolder, ReplacesAFolderOfItsOwnFilesWithForce) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  WriteText(folder / "out/data", "old");
  WriteText(folder / "out/extra", "old");
  {
    Outputs outputs(kForce);
    Fill(outputs.AddFolder(folder / "out/", kOwned), "new");
    EXPECT_EQ(ReadText(folder / "out/data"), "old");
    outputs.Commit();
  }
  EXPECT_THAT(folder.List(), ElementsAre("out"));
  EXPECT_EQ(ReadText(folder / "out/data"), "new");
  EXPECT_FALSE(fs::exists(folder / "out/extra"));
}

TEST(StagedFolder, RefusesAFolderWithForeignFilesAndNamesFive) {
  const TempFolder folder;
  fs::create_directories(folder / "out/d");
  for (const std::string name : {"data", "a", "b", "c", "e", "f", "g"}) {
    WriteText(folder / ("out/" + name), "x");
  }
  EXPECT_EQ(
      ErrorOf(ErrorCode::kOutput, [&] { const StagedFolder s(folder / "out", kOwned, kForce); }),
      (folder / "out").native() +
          ": not replaced: it holds files that do not belong to such an output: 'a', 'b', 'c', "
          "'d', 'e' and "
          "2 more (move them away, or choose another -o)");
  EXPECT_THAT(folder.List(), ElementsAre("out"));
  EXPECT_TRUE(fs::exists(folder / "out/data"));
}

TEST(StagedFolder, RefusesForeignFilesThatAppearedMeanwhile) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  {
    Outputs outputs(kForce);
    Fill(outputs.AddFolder(folder / "out", kOwned), "new");
    WriteText(folder / "out/notes", "x");
    ErrorOf(ErrorCode::kOutput, [&] { outputs.Commit(); });
  }
  EXPECT_THAT(folder.List(), ElementsAre("out"));
  EXPECT_EQ(ReadText(folder / "out/notes"), "x");
}

TEST(StagedFolder, ReplacesALinkAndNotItsTargetWithForce) {
  const TempFolder folder;
  fs::create_directory(folder / "victim");
  WriteText(folder / "victim/notes", "x");
  fs::create_directory_symlink("victim", folder / "out");
  {
    Outputs outputs(kForce);
    Fill(outputs.AddFolder(folder / "out", kOwned), "new");
    outputs.Commit();
  }
  EXPECT_FALSE(fs::is_symlink(folder / "out"));
  EXPECT_EQ(ReadText(folder / "victim/notes"), "x");
  EXPECT_THAT(folder.List(), ElementsAre("out", "victim"));
}

TEST(StagedFolder, RefusesToReplaceAFile) {
  const TempFolder folder;
  WriteText(folder / "out", "x");
  EXPECT_EQ(
      ErrorOf(ErrorCode::kOutput, [&] { const StagedFolder s(folder / "out", kOwned, kForce); }),
      (folder / "out").native() + ": is not a folder");
}

TEST(StagedFolder, NeedsANameOfItsOwn) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  for (const char* name : {"out/.", "out/..", "out/./", "new/."}) {
    EXPECT_THAT(
        ErrorOf(ErrorCode::kUsage, [&] { const StagedFolder s(folder / name, kOwned, kForce); }),
        testing::EndsWith(
            ": a folder that is renamed into place needs a name of its own (give -o the "
            "name of a new folder)"))
        << name;
  }
  EXPECT_THAT(folder.List(), ElementsAre("out"));
}

}  // namespace
}  // namespace phiq
