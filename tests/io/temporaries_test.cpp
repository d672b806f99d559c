// What dead runs leave is found, what lives is left alone.
#include "io/temporaries.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include "io/other_run.h"
#include "io/outputs.h"
#include "io/recovery.h"
#include "io/temp_folder.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Temporaries, RefusesAnOutputThatALiveRunWrites) {
  const TempFolder folder;
  OtherRun other([&] { new OutputFile(folder / "out", 4, {}); });
  EXPECT_EQ(ErrorOf(ErrorCode::kTryAgain, [&] { const OutputFile file(folder / "out", 4, {}); }),
            (folder / "out").native() + ": locked by another run (it writes the same output)");
  EXPECT_EQ(folder.List().size(), 1U);  // the other run's
  const OutputFile neighbour(folder / "out2", 4, {});
}

TEST(Temporaries, RemovesWhatADeadRunLeft) {
  const TempFolder folder;
  OtherRun other([&] { new OutputFile(folder / "out", 4, {}); });
  OtherRun neighbour([&] { new OutputFile(folder / "out2", 4, {}); });
  other.Kill();
  ASSERT_EQ(folder.List().size(), 2U);
  RecoverFolder(folder / "");
  EXPECT_THAT(folder.List(), ElementsAre(HasSubstr(".out2.phiq-tmp.")));
}

TEST(Temporaries, LeavesLinksAndOtherNamesAlone) {
  const TempFolder folder;
  WriteText(folder / "victim", "untouched");
  fs::create_symlink("victim", folder / ".out.phiq-tmp.0123456789ab");
  WriteText(folder / ".out.phiq-tmp.notes", "not ours: the end is not twelve digits");
  RecoverFolder(folder / "");
  EXPECT_THAT(folder.List(),
              ElementsAre(".out.phiq-tmp.0123456789ab", ".out.phiq-tmp.notes", "victim"));
  EXPECT_EQ(ReadText(folder / "victim"), "untouched");
}

TEST(Temporaries, RefusesAFolderThatALiveRunWrites) {
  const TempFolder folder;
  OtherRun other([&] { new StagedFolder(folder / "out", {"a"}, {}); });
  ErrorOf(ErrorCode::kTryAgain, [&] { const StagedFolder staged(folder / "out", {"a"}, {}); });
}

TEST(Temporaries, UnlinksAllOfThemForASignalHandler) {
  const TempFolder folder;
  WriteText(folder / "kept", "x");
  OutputFile done(folder / "done", 1, {});
  done.Commit();
  const OutputFile file(folder / "out", 4, {});
  Outputs outputs({});
  StagedFolder& staged = outputs.AddFolder(folder / "staged", {"a", "b"});
  staged.Create("a", 1);
  staged.Create("b", 1).Commit();
  ASSERT_EQ(folder.List().size(), 5U);  // the journal, too
  UnlinkTemporariesNow();
  EXPECT_THAT(folder.List(), ElementsAre("done", "kept"));
}

TEST(Temporaries, ShortensAndMarksLongNames) {
  EXPECT_EQ(TemporaryPrefix("out.gguf"), ".out.gguf.phiq-tmp.");
  const std::string longest(232, 'n');  // 255 less the dot, the mark and twelve digits
  EXPECT_EQ(TemporaryPrefix(longest), "." + longest + ".phiq-tmp.");
  // sha256sum of 255 times 'n' and of 254 times 'n' and an 'm'
  EXPECT_EQ(TemporaryPrefix(std::string(255, 'n')),
            "." + std::string(215, 'n') + "~3bb555e4ed3e8c6e.phiq-tmp.");
  EXPECT_EQ(TemporaryPrefix(std::string(254, 'n') + "m"),
            "." + std::string(215, 'n') + "~aacb821614c457be.phiq-tmp.");
}

TEST(Temporaries, CutsLongNamesBetweenCharacters) {
  std::string name = "x";  // so that byte 215 is the middle of a character
  while (name.size() < 254) name += "\xc3\xa4";
  const std::string prefix = TemporaryPrefix(name);
  EXPECT_EQ(prefix.find('~'), 1U + 215U);
  name.insert(name.begin(), 'x');
  name.resize(254);
  EXPECT_EQ(TemporaryPrefix(name).find('~'), 1U + 214U);
}

}  // namespace
}  // namespace phiq
