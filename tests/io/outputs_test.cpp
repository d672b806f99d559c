// Several outputs get their names together, at every place where a run may end.
#include "io/outputs.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "io/journal.h"
#include "io/other_run.h"
#include "io/recovery.h"
#include "io/renames.h"
#include "io/temp_folder.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const OutputOptions kForce = {.force = true};

// A file "file" and a folder "folder" of one file, each saying `text`.
void AddBoth(Outputs& outputs, const TempFolder& folder, const std::string& text) {
  outputs.AddFiles({{folder / "file", text.size()}}, 0)[0]->WriteAt(0, Bytes(text));
  outputs.AddFolder(folder / "folder", {"data"})
      .Create("data", text.size())
      .WriteAt(0, Bytes(text));
}

void AddSplit(Outputs& outputs, const TempFolder& folder, const std::string& text) {
  std::vector<Outputs::NewFile> files;
  for (const std::string name : {"root", "data1", "data2"})
    files.push_back({folder / name, text.size()});
  for (OutputFile* file : outputs.AddFiles(files, 0)) file->WriteAt(0, Bytes(text));
}

void ExpectBoth(const TempFolder& folder, const std::string& text) {
  EXPECT_THAT(folder.List(), ElementsAre("file", "folder"));
  EXPECT_EQ(ReadText(folder / "file"), text);
  EXPECT_EQ(ReadText(folder / "folder/data"), text);
}

TEST(Outputs, GetTheirNamesTogether) {
  const TempFolder folder;
  {
    Outputs outputs({});
    AddBoth(outputs, folder, "new");
    outputs.Commit();
  }
  ExpectBoth(folder, "new");
}

TEST(Outputs, ReplaceTogetherWithForce) {
  const TempFolder folder;
  for (const std::string text : {"old", "newer"}) {
    Outputs outputs(kForce);
    AddBoth(outputs, folder, text);
    outputs.Commit();
  }
  ExpectBoth(folder, "newer");
}

TEST(Outputs, AreNotThereWhenOneNameIsTaken) {
  const TempFolder folder;
  fs::create_directory(folder / "folder");
  fs::remove(folder / "folder");
  {
    Outputs outputs({});
    AddBoth(outputs, folder, "new");
    fs::create_directory(folder / "folder");
    EXPECT_EQ(ErrorOf(ErrorCode::kOutput, [&] { outputs.Commit(); }),
              (folder / "folder").native() + ": exists (--force replaces it)");
  }
  EXPECT_THAT(folder.List(), ElementsAre("folder"));
  EXPECT_TRUE(fs::is_empty(folder / "folder"));
}

TEST(Outputs, AreAllOldWhenOneCannotBeReplaced) {
  const TempFolder folder;
  {
    Outputs outputs({});
    AddSplit(outputs, folder, "old");
    outputs.Commit();
  }
  {
    Outputs outputs(kForce);
    AddSplit(outputs, folder, "new");
    fs::remove(folder / "data2");
    fs::create_directory(folder / "data2");
    ErrorOf(ErrorCode::kOutput, [&] { outputs.Commit(); });
  }
  EXPECT_THAT(folder.List(), ElementsAre("data1", "data2", "root"));
  EXPECT_EQ(ReadText(folder / "root"), "old");
  EXPECT_EQ(ReadText(folder / "data1"), "old");
}

TEST(Outputs, OfAFailedCommitLeaveNothing) {
  const TempFolder folder;
  {
    Outputs outputs({});
    AddSplit(outputs, folder, "new");
    WriteText(folder / "data2", "foreign");
    ErrorOf(ErrorCode::kOutput, [&] { outputs.Commit(); });
  }
  EXPECT_THAT(folder.List(), ElementsAre("data2"));
  EXPECT_EQ(ReadText(folder / "data2"), "foreign");
}

// --- in two folders -----------------------------------------------------------------------

void AddFile(Outputs& outputs, const fs::path& path, const std::string& text) {
  outputs.AddFiles({{path, text.size()}}, 0)[0]->WriteAt(0, Bytes(text));
}

TEST(Outputs, OfTwoFoldersGetTheirNamesTogether) {
  const TempFolder folder, other;
  {
    Outputs outputs({});
    AddBoth(outputs, folder, "new");
    AddFile(outputs, other / "beside", "new");
    AddFile(outputs, folder / "." / "same", "new");
    outputs.Commit();
  }
  EXPECT_THAT(folder.List(), ElementsAre("file", "folder", "same"));
  EXPECT_THAT(other.List(), ElementsAre("beside"));
}

TEST(Outputs, OfTwoFoldersAreAllOldWhenTheLastCannotBeReplaced) {
  const TempFolder folder, other;
  for (const std::string text : {"old", "new"}) {
    Outputs outputs(kForce);
    AddFile(outputs, folder / "file", text);
    AddFile(outputs, other / "beside", text);
    if (text == "old") {
      outputs.Commit();
      continue;
    }
    fs::remove(other / "beside");
    fs::create_directory(other / "beside");
    ErrorOf(ErrorCode::kOutput, [&] { outputs.Commit(); });
  }
  EXPECT_THAT(folder.List(), ElementsAre("file"));
  EXPECT_EQ(ReadText(folder / "file"), "old");
  EXPECT_THAT(other.List(), ElementsAre("beside"));
}

TEST(Outputs, ReplaceWhatTheyMayWithoutForce) {
  const TempFolder folder;
  WriteText(folder / "page", "old");
  Outputs outputs({});
  outputs.AddFiles({{folder / "page", 3, /*replaces=*/true}}, 0)[0]->WriteAt(0, Bytes("new"));
  outputs.Commit();
  EXPECT_EQ(ReadText(folder / "page"), "new");
}

// --- runs that were killed ------------------------------------------------------------------

TEST(Recovery, RemovesWhatADeadRunOfAnyFormatLeft) {
  const TempFolder folder;
  OtherRun other([&] { AddBoth(*new Outputs({}), folder, "new"); });
  ASSERT_EQ(folder.List().size(), 3U);
  RecoverFolder(folder / "");
  ASSERT_EQ(folder.List().size(), 3U) << "the other run lives";
  other.Kill();
  RecoverFolder(folder / "");
  EXPECT_THAT(folder.List(), IsEmpty());
}

// A run that is killed when it has made the first `n` of its renames.
class KilledInCommit {
 public:
  KilledInCommit(const TempFolder& folder, std::size_t n)
      : run_([&folder, n] {
          auto* outputs = new Outputs(kForce);
          AddBoth(*outputs, folder, "new");
          // The commit of Outputs, by hand, up to the kill.
          const int dir_fd = ::open((folder / "").c_str(), O_RDONLY | O_DIRECTORY);
          std::vector<Rename> renames;
          for (const std::string& name : ListNames(dir_fd, folder / "")) {
            if (!IsTemporaryName(name)) continue;
            const bool is_folder = name.starts_with(".folder.");
            const std::string to = is_folder ? "folder" : "file";
            renames.push_back({.from = name, .to = to, .aside = NewTemporaryName(to)});
            renames.back().inode = InodeAt(dir_fd, name);
            renames.back().old_inode = InodeAt(dir_fd, to);
            renames.back().is_folder = is_folder;
            renames.back().force = true;
            if (is_folder && renames.back().old_inode != 0) renames.back().old_files = {"data"};
          }
          (new Journal(folder / ""))->Note(renames, true);
          renames.resize(n);
          Renames(dir_fd, folder / "", renames, true).Make();
        }) {
    run_.Kill();
  }

 private:
  OtherRun run_;
};

TEST(Recovery, FinishesACommitThatHadBegun) {
  for (const bool is_replacing : {false, true}) {
    for (const std::size_t n : {0, 1, 2}) {
      const TempFolder folder;
      if (is_replacing) {
        Outputs outputs({});
        AddBoth(outputs, folder, "old");
        outputs.Commit();
      }
      const KilledInCommit killed(folder, n);
      const Recovered recovered = RecoverFolder(folder / "");
      EXPECT_THAT(recovered.finished, UnorderedElementsAre("file", "folder"));
      EXPECT_THAT(recovered.unfinished, IsEmpty());
      EXPECT_THAT(recovered.left, IsEmpty());
      ExpectBoth(folder, "new");
      EXPECT_THAT(RecoverFolder(folder / "").finished, IsEmpty());
    }
  }
}

TEST(Recovery, DoesNotReplaceWhatSomebodyPutThereMeanwhile) {
  const TempFolder folder;
  const KilledInCommit killed(folder, 0);
  WriteText(folder / "file", "mine");
  const Recovered recovered = RecoverFolder(folder / "");
  EXPECT_THAT(recovered.finished, ElementsAre("folder"));
  EXPECT_THAT(recovered.unfinished,
              ElementsAre((folder / "file").native() + ": something else stands there now"));
  EXPECT_EQ(ReadText(folder / "file"), "mine");
  EXPECT_THAT(folder.List(), ElementsAre("file", "folder"));
}

TEST(Recovery, KeepsAFolderToWhichSomebodyAddedAFile) {
  const TempFolder folder;
  {
    Outputs outputs({});
    AddBoth(outputs, folder, "old");
    outputs.Commit();
  }
  const KilledInCommit killed(folder, 0);
  WriteText(folder / "folder/notes", "mine");
  EXPECT_THAT(RecoverFolder(folder / "").unfinished.size(), 1U);
  EXPECT_EQ(ReadText(folder / "folder/notes"), "mine");
  EXPECT_EQ(ReadText(folder / "folder/data"), "old");
}

TEST(Recovery, LeavesAHiddenFolderThatItDoesNotKnow) {
  const TempFolder folder;
  const std::string name = ".out.phiq-tmp.0123456789ab";
  fs::create_directory(folder / name);
  WriteText(folder / (name + "/notes"), "mine");
  EXPECT_THAT(RecoverFolder(folder / "").left, ElementsAre(name));
  EXPECT_EQ(ReadText(folder / (name + "/notes")), "mine");
}

TEST(Recovery, LeavesWhatALiveRunHasExchanged) {
  const TempFolder folder;
  const std::string name = ".out.phiq-tmp.0123456789ab";
  WriteText(folder / name, "old");  // locked by nobody
  OtherRun other([&] {
    Rename rename{.from = name, .to = "out", .aside = NewTemporaryName("out")};
    (new Journal(folder / ""))->Note(std::vector<Rename>{rename}, false);
  });
  RecoverFolder(folder / "");
  EXPECT_EQ(ReadText(folder / name), "old");
}

// --- the journal ------------------------------------------------------------------------------

TEST(Journal, SaysWhatWasNoted) {
  const TempFolder folder;
  const std::string from = ".a b%\n.gguf.phiq-tmp.0123456789ab";
  Rename rename{.from = from, .to = "a b%\n.gguf", .aside = NewTemporaryName("x")};
  rename.inode = 1ULL << 63;
  rename.old_inode = 7;
  rename.is_folder = rename.force = rename.sync_first = true;
  rename.old_files = {"model.onnx", "with space"};
  Journal journal(folder / "");
  journal.Note({from, 42}, false);
  const std::string path = folder / folder.List().at(0);
  EXPECT_THAT(ReadJournal(ReadText(path)).renames, IsEmpty());
  journal.Note(std::vector<Rename>{rename}, false);
  const JournalContent content = ReadJournal(ReadText(path));
  ASSERT_EQ(content.folders.size(), 1U);
  EXPECT_EQ(content.folders[0].name, from);
  EXPECT_EQ(content.folders[0].inode, 42U);
  ASSERT_EQ(content.renames.size(), 1U);
  EXPECT_EQ(content.renames[0].from, rename.from);
  EXPECT_EQ(content.renames[0].to, rename.to);
  EXPECT_EQ(content.renames[0].aside, rename.aside);
  EXPECT_EQ(content.renames[0].inode, rename.inode);
  EXPECT_EQ(content.renames[0].old_inode, rename.old_inode);
  EXPECT_TRUE(content.renames[0].is_folder && content.renames[0].force);
  EXPECT_TRUE(content.renames[0].sync_first);
  EXPECT_EQ(content.renames[0].old_files, rename.old_files);
  // Cut anywhere, no commit had begun.
  const std::string text = ReadText(path);
  for (std::size_t n = 0; n + 1 < text.size(); ++n)
    EXPECT_THAT(ReadJournal(text.substr(0, n)).renames, IsEmpty()) << n;
}

TEST(Journal, NamesNothingOutsideOfItsFolder) {
  const std::string good = ".o.phiq-tmp.0123456789ab";
  const auto n_renames = [](const std::string& words) {
    return ReadJournal("rename " + words + " 1 0 f-\ncommit\n").renames.size();
  };
  EXPECT_EQ(n_renames(good + " o " + good), 1U);
  EXPECT_EQ(n_renames(good + " ../o " + good), 0U);
  EXPECT_EQ(n_renames(good + " .. " + good), 0U);
  EXPECT_EQ(n_renames(good + " %2fetc%2fo " + good), 0U);
  EXPECT_EQ(n_renames("victim o " + good), 0U);
  EXPECT_EQ(n_renames(good + " o victim"), 0U);
  EXPECT_THAT(ReadJournal("folder victim 1\n").folders, IsEmpty());
}

}  // namespace
}  // namespace phiq
