// Positioned reads, and files that are not what they were.
#include "io/input_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "io/temp_folder.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string OpenErrorOf(const fs::path& path, ErrorCode code = ErrorCode::kInput) {
  return ErrorOf(code, [&] { const InputFile file(path); });
}

TEST(InputFile, ReadsAtAnyPosition) {
  const TempFolder folder;
  WriteText(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  EXPECT_EQ(file.size(), 10U);
  std::string text(4, '?');
  file.ReadAt(6, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(text, "6789");
  file.ReadAt(0, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(text, "0123");
  file.ReadAt(10, {});
}

TEST(InputFile, SaysWhichFileIsMissing) {
  const TempFolder folder;
  const std::string path = (folder / "none").native();
  EXPECT_EQ(OpenErrorOf(path), path + ": No such file or directory");
}

TEST(InputFile, NamesTheTargetOfADanglingLinkEscaped) {
  const TempFolder folder;
  fs::create_symlink("blobs/a\nb", folder / "link");
  EXPECT_EQ(OpenErrorOf(folder / "link"),
            (folder / "link").native() + ": dangling link to blobs/a\\x0ab");
}

TEST(InputFile, RefusesALinkLoop) {
  const TempFolder folder;
  fs::create_symlink("b", folder / "a");
  fs::create_symlink("a", folder / "b");
  EXPECT_THAT(OpenErrorOf(folder / "a"), HasSubstr(": Too many levels of symbolic links"));
}

TEST(InputFile, RefusesWhatIsNotARegularFileWithoutWaiting) {
  const TempFolder folder;
  fs::create_directory(folder / "folder");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string socket_path = (folder / "socket").native();
  ASSERT_LT(socket_path.size(), sizeof(address.sun_path));
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  for (const fs::path& path :
       {folder / "folder", folder / "pipe", folder / "socket", fs::path("/dev/zero")}) {
    EXPECT_EQ(OpenErrorOf(path), path.native() + ": not a regular file");
  }
  ::close(fd);
}

TEST(InputFile, ReportsThatNoDescriptorsAreLeftAsResources) {
  const TempFolder folder;
  WriteText(folder / "a", "x");
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::string what = OpenErrorOf(folder / "a", ErrorCode::kResources);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(what, HasSubstr("Too many open files"));
}

TEST(InputFile, NoticesThatItWasCutWhileReading) {
  const TempFolder folder;
  WriteText(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  fs::resize_file(folder / "a", 4);
  std::string text(8, '?');
  EXPECT_EQ(ErrorOf(ErrorCode::kTryAgain,
                    [&] { file.ReadAt(0, std::as_writable_bytes(std::span(text))); }),
            (folder / "a").native() + ": changed while reading: truncated from 10 bytes at byte 4");
}

TEST(InputFile, NoticesThatItChangedWhileReading) {
  const TempFolder folder;
  WriteText(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  file.CheckUnchanged();
  fs::resize_file(folder / "a", 11);
  EXPECT_EQ(ErrorOf(ErrorCode::kTryAgain, [&] { file.CheckUnchanged(); }),
            (folder / "a").native() + ": changed while reading");
}

TEST(InputFile, MayGetAnotherNameOrModeWhileReading) {
  const TempFolder folder;
  WriteText(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a clock tick of the file system
  fs::create_hard_link(folder / "a", folder / "b");
  fs::permissions(folder / "a", fs::perms::owner_read);
  file.CheckUnchanged();
}

TEST(InputFile, NoticesBytesOfTheSameLength) {
  const TempFolder folder;
  WriteText(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  WriteText(folder / "a", "9876543210");
  ErrorOf(ErrorCode::kTryAgain, [&] { file.CheckUnchanged(); });
}

TEST(InputFile, KnowsItselfByOtherNames) {
  const TempFolder folder;
  WriteText(folder / "a", "x");
  WriteText(folder / "b", "x");
  fs::create_symlink("a", folder / "link");
  fs::create_hard_link(folder / "a", folder / "hard");
  const InputFile file(folder / "a");
  EXPECT_TRUE(file.IsSameFile(folder / "./a"));
  EXPECT_TRUE(file.IsSameFile(folder / "link"));
  EXPECT_TRUE(file.IsSameFile(folder / "hard"));
  EXPECT_FALSE(file.IsSameFile(folder / "b"));
  EXPECT_FALSE(file.IsSameFile(folder / "none"));
}

TEST(ReadWholeFile, RefusesMoreThanItsLimit) {
  const TempFolder folder;
  WriteText(folder / "a", "12345");
  EXPECT_EQ(ReadWholeFile(folder / "a", 5), "12345");
  EXPECT_EQ(ErrorOf(ErrorCode::kBadData, [&] { ReadWholeFile(folder / "a", 4); }),
            (folder / "a").native() + ": has 5 bytes, more than the 4 that are allowed");
}

}  // namespace
}  // namespace phiq
