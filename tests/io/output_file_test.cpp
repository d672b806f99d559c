// A file appears whole or not at all.
#include "io/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <csignal>
#include <thread>

#include "io/parallel.h"
#include "io/temp_folder.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

const OutputOptions kForce = {.force = true};

void WriteOutput(const fs::path& path, const std::string& text, const OutputOptions& options = {}) {
  OutputFile file(path, text.size(), options);
  file.WriteAt(0, Bytes(text));
  file.Commit();
}

class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}
  ~Umask() { ::umask(before_); }
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;

 private:
  mode_t before_;
};

TEST(OutputFile, AppearsWholeAtCommit) {
  const TempFolder folder;
  OutputFile file(folder / "out", 10, {});
  file.WriteAt(5, Bytes("56789"));
  file.WriteAt(0, Bytes("01234"));
  EXPECT_FALSE(fs::exists(folder / "out"));
  file.Commit();
  EXPECT_THAT(folder.List(), ElementsAre("out"));
  EXPECT_EQ(ReadText(folder / "out"), "0123456789");
}

TEST(OutputFile, LeavesNothingWithoutCommit) {
  const TempFolder folder;
  {
    OutputFile file(folder / "out", 4, {});
    file.WriteAt(0, Bytes("half"));
    EXPECT_THAT(folder.List(), ElementsAre(StartsWith(".out.phiq-tmp.")));
  }
  EXPECT_THAT(folder.List(), IsEmpty());
}

TEST(OutputFile, KeepsTheOldFileWithoutCommit) {
  const TempFolder folder;
  WriteText(folder / "out", "old");
  { OutputFile(folder / "out", 3, kForce).WriteAt(0, Bytes("new")); }
  EXPECT_THAT(folder.List(), ElementsAre("out"));
  EXPECT_EQ(ReadText(folder / "out"), "old");
}

TEST(OutputFile, FillsWhatWasNotWrittenWithZeros) {
  const TempFolder folder;
  OutputFile file(folder / "out", 6, {});
  file.WriteAt(2, Bytes("x"));
  file.Commit();
  EXPECT_EQ(ReadText(folder / "out"), std::string("\0\0x\0\0\0", 6));
}

TEST(OutputFile, MayBeEmpty) {
  const TempFolder folder;
  WriteOutput(folder / "out", "");
  EXPECT_TRUE(fs::exists(folder / "out"));
}

TEST(OutputFile, RefusesToReplaceWithoutForce) {
  const TempFolder folder;
  WriteText(folder / "out", "old");
  fs::create_symlink("nowhere", folder / "link");
  for (const std::string name : {"out", "link"}) {
    EXPECT_EQ(ErrorOf(ErrorCode::kOutput, [&] { WriteOutput(folder / name, "new"); }),
              (folder / name).native() + ": exists (--force replaces it)");
  }
  EXPECT_THAT(folder.List(), ElementsAre("link", "out"));
  EXPECT_EQ(ReadText(folder / "out"), "old");
}

TEST(OutputFile, RefusesToReplaceWhatAppearedMeanwhile) {
  const TempFolder folder;
  OutputFile file(folder / "out", 3, {});
  file.WriteAt(0, Bytes("new"));
  WriteText(folder / "out", "old");
  EXPECT_EQ(ErrorOf(ErrorCode::kOutput, [&] { file.Commit(); }),
            (folder / "out").native() +
                ": exists now, and did not when the work began (--force replaces it)");
  EXPECT_EQ(ReadText(folder / "out"), "old");
}

TEST(OutputFile, ReplacesWithForceAndKeepsTheMode) {
  const TempFolder folder;
  WriteText(folder / "out", "old");
  ASSERT_EQ(::chmod((folder / "out").c_str(), 0640), 0);
  WriteOutput(folder / "out", "new", kForce);
  EXPECT_EQ(ReadText(folder / "out"), "new");
  EXPECT_EQ(ModeOf(folder / "out"), 0640U);
  EXPECT_THAT(folder.List(), ElementsAre("out"));
}

TEST(OutputFile, ReplacesALinkAndNotItsTargetWithForce) {
  const TempFolder folder;
  WriteText(folder / "victim", "untouched");
  fs::create_symlink("victim", folder / "out");
  WriteOutput(folder / "out", "new", kForce);
  EXPECT_FALSE(fs::is_symlink(folder / "out"));
  EXPECT_EQ(ReadText(folder / "out"), "new");
  EXPECT_EQ(ReadText(folder / "victim"), "untouched");
}

TEST(OutputFile, IsPrivateUntilCommitAndThenFollowsTheUmask) {
  const TempFolder folder;
  for (const auto& [mask, mode] : {std::pair{0U, 0666U}, {077U, 0600U}, {027U, 0640U}}) {
    const Umask umask(mask);
    const fs::path path = folder / fmt::format("out{}", mask);
    OutputFile file(path, 1, {});
    file.WriteAt(0, Bytes("x"));
    for (const std::string& name : folder.List()) {
      if (name.starts_with(".")) {
        EXPECT_EQ(ModeOf(folder / name), 0600U) << name;
      }
    }
    file.Commit();
    EXPECT_EQ(ModeOf(path), mode) << "umask " << mask;
  }
}

TEST(OutputFile, TakesANameOf255Bytes) {
  const TempFolder folder;
  const std::string ascii(255, 'n');
  std::string utf8;
  while (utf8.size() < 254) utf8 += "\xc3\xa4";
  for (const std::string& name : {ascii, utf8}) {
    WriteOutput(folder / name, "x");
    WriteOutput(folder / name, "y", kForce);
    EXPECT_EQ(ReadText(folder / name), "y");
  }
  EXPECT_EQ(folder.List().size(), 2U);
}

TEST(OutputFile, RefusesFolders) {
  const TempFolder folder;
  fs::create_directory(folder / "there");
  EXPECT_EQ(ErrorOf(ErrorCode::kUsage, [&] { WriteOutput(folder / "there", "x", kForce); }),
            (folder / "there").native() + ": is a folder");
  ErrorOf(ErrorCode::kUsage, [&] { WriteOutput(folder / "there/", "x", kForce); });
  ErrorOf(ErrorCode::kUsage, [&] { WriteOutput(folder / "there/..", "x", kForce); });
  EXPECT_THAT(folder.List(), ElementsAre("there"));
}

TEST(OutputFile, NeedsAFolderOrMkdir) {
  const TempFolder folder;
  const fs::path path = folder / "a/b/out";
  EXPECT_EQ(
      ErrorOf(ErrorCode::kOutput, [&] { WriteOutput(path, "x"); }),
      path.native() + ": no folder to write into: No such file or directory (--mkdir creates it)");
  WriteOutput(path, "x", {.mkdir = true});
  EXPECT_EQ(ReadText(path), "x");
}

TEST(OutputFile, RefusesAFileAsFolderAndADanglingLinkWithMkdir) {
  const TempFolder folder;
  WriteText(folder / "file", "x");
  fs::create_symlink("nowhere", folder / "link");
  const OutputOptions mkdir = {.mkdir = true};
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { WriteOutput(folder / "file/out", "x"); }),
              HasSubstr("Not a directory"));
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { WriteOutput(folder / "file/out", "x", mkdir); }),
              HasSubstr("Not a directory"));
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { WriteOutput(folder / "link/a/out", "x", mkdir); }),
              HasSubstr("No such file or directory"));
}

TEST(OutputFile, NamesTheBytesNeededAndFree) {
  const TempFolder folder;
  const std::string what =
      ErrorOf(ErrorCode::kOutput, [&] { CheckSpace(folder / "out", 1ULL << 60); });
  EXPECT_THAT(what, HasSubstr("(1152921504606846976 bytes)"));
  EXPECT_THAT(what, HasSubstr("free on this disk"));
  CheckSpace(folder / "out", 1);
}

TEST(OutputFile, LeavesNothingWhenTheFileSizeLimitIsReached) {
  const TempFolder folder;
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string what =
      ErrorOf(ErrorCode::kOutput, [&] { const OutputFile file(folder / "out", 8192, {}); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(what, HasSubstr("cannot reserve 8192 bytes: File too large"));
  EXPECT_THAT(folder.List(), IsEmpty());
}

TEST(OutputFile, RefusesBytesPastItsEnd) {
  const TempFolder folder;
  OutputFile file(folder / "out", 4, {});
  ErrorOf(ErrorCode::kInternal, [&] { file.WriteAt(2, Bytes("abc")); });
  ErrorOf(ErrorCode::kInternal, [&] { file.WriteAt(UINT64_MAX, Bytes("abc")); });
}

TEST(OutputFile, NoticesThatItsTemporaryWasCut) {
  const TempFolder folder;
  OutputFile file(folder / "out", 4, {});
  fs::resize_file(folder / folder.List().at(0), 2);
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { file.Commit(); }),
              HasSubstr("has 2 bytes after writing 4"));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(OutputFile, GetsTheSameBytesFromAnyNumberOfThreads) {
  const TempFolder folder;
  std::string wanted;
  for (int i = 0; i < 100; ++i) wanted += fmt::format("{:04}", i);
  for (const unsigned n_threads : {1U, 8U}) {
    const fs::path path = folder / fmt::format("out{}", n_threads);
    OutputFile file(path, wanted.size(), {});
    ParallelChunks(n_threads, 100, [&](std::size_t item, unsigned) {
      file.WriteAt(item * 4, Bytes(wanted.substr(item * 4, 4)));
    });
    file.Commit();
    EXPECT_EQ(ReadText(path), wanted);
  }
}

TEST(OutputStream, WritesInOrderWhateverTheThreads) {
  const TempFolder folder;
  const fs::path path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string received;
  std::thread reader([&] { received = ReadText(path); });
  std::string wanted;
  for (int i = 0; i < 5000; ++i) wanted += fmt::format("{:04}", i);
  constexpr std::size_t kPiece = 200;
  {
    OutputFile file(path, wanted.size(), {});
    EXPECT_TRUE(file.is_stream());
    ParallelChunks(8, wanted.size() / kPiece, [&](std::size_t item, unsigned) {
      if (item % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
      file.WriteAt(item * kPiece, Bytes(wanted.substr(item * kPiece, kPiece)));
    });
    file.Commit();
  }
  reader.join();
  EXPECT_EQ(received, wanted);
  EXPECT_TRUE(fs::is_fifo(path));
}

TEST(OutputStream, ReportsTheFirstFailureAndNotItsEcho) {
  OutputFile file("/dev/null", 8, {});
  ParallelHooks hooks;
  hooks.on_failure = [&] { file.Abandon(); };
  const std::string what = ErrorOf(ErrorCode::kBadData, [&] {
    ParallelChunks(
        4, 8,
        [&](std::size_t item, unsigned) {
          if (item == 1) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            throw Error(ErrorCode::kBadData, "item 1");
          }
          file.WriteAt(item, Bytes("x"));  // 2 and 3 wait for 1
        },
        hooks);
  });
  EXPECT_EQ(what, "item 1");
}

TEST(OutputStream, StopsAlthoughTheReaderTakesNothing) {
  const TempFolder folder;
  const fs::path path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  const std::string more_than_a_pipe_holds(4 << 20, 'x');
  OutputFile file(path, more_than_a_pipe_holds.size(), {});
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    file.Abandon();
  });
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { file.WriteAt(0, Bytes(more_than_a_pipe_holds)); }),
              HasSubstr("given up"));
  stopper.join();
  ::close(reader);
}

TEST(OutputStream, ReportsAFullDevice) {
  OutputFile file("/dev/full", 1, {});
  EXPECT_EQ(ErrorOf(ErrorCode::kOutput, [&] { file.WriteAt(0, Bytes("x")); }),
            "/dev/full: write error: No space left on device");
}

TEST(OutputStream, ReportsAReaderThatWentAway) {
  const TempFolder folder;
  const fs::path path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  OutputFile file(path, 1, {});
  ::close(reader);
  const auto handler = std::signal(SIGPIPE, SIG_IGN);
  EXPECT_THAT(ErrorOf(ErrorCode::kOutput, [&] { file.WriteAt(0, Bytes("x")); }),
              HasSubstr("write error: Broken pipe"));
  std::signal(SIGPIPE, handler);
}

TEST(OutputStream, RefusesATerminal) {
  int controller = -1;
  int terminal = -1;
  std::array<char, 64> name = {};
  ASSERT_EQ(::openpty(&controller, &terminal, name.data(), nullptr, nullptr), 0);
  EXPECT_THAT(ErrorOf(ErrorCode::kUsage, [&] { const OutputFile file(name.data(), 1, {}); }),
              HasSubstr("terminal"));
  const int stdout_copy = ::dup(STDOUT_FILENO);
  ::dup2(terminal, STDOUT_FILENO);
  const std::string what = ErrorOf(ErrorCode::kUsage, [] { CheckOutputPath("-", {}); });
  ::dup2(stdout_copy, STDOUT_FILENO);
  EXPECT_THAT(what, StartsWith("standard output: refusing"));
  ::close(stdout_copy);
  ::close(terminal);
  ::close(controller);
}

TEST(OutputStream, WritesToStandardOutputAndLeavesItOpen) {
  const TempFolder folder;
  const int file_fd = ::open((folder / "redirected").c_str(), O_WRONLY | O_CREAT, 0600);
  const int stdout_copy = ::dup(STDOUT_FILENO);
  ::dup2(file_fd, STDOUT_FILENO);
  WriteOutput("-", "model");
  const bool is_open = ::fcntl(STDOUT_FILENO, F_GETFD) != -1;
  ::dup2(stdout_copy, STDOUT_FILENO);
  ::close(stdout_copy);
  ::close(file_fd);
  EXPECT_TRUE(is_open);
  EXPECT_EQ(ReadText(folder / "redirected"), "model");
}

}  // namespace
}  // namespace phiq
