// A file that is read by position and never mapped, written or locked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace phiq {

class InputFile {
 public:
  // Opens read-only and checks that it is a regular file.
  // Throws   kInput: missing, dangling link, link loop, no permission, not a regular file.
  //          kResources: no file descriptors left.
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return identity_.size_bytes; }

  // Fills `out` from `offset_bytes`. Threads: safe.
  // Throws   kInput: read error. kTryAgain: the file ends before it did at opening.
  void ReadAt(std::uint64_t offset_bytes, std::span<std::byte> out) const;

  // Throws kTryAgain "changed while reading" when size, time of change or inode differ from those
  // at opening.
  void CheckUnchanged() const;

  // Same device and inode as `other` (links followed).
  bool IsSameFile(const std::filesystem::path& other) const;

 private:
  struct Identity {
    std::uint64_t device = 0, inode = 0, size_bytes = 0;
    // Not ctime: a hard link (cp -l, deduplication, a backup) or chmod changes it, and no byte.
    std::int64_t mtime_s = 0, mtime_ns = 0;
    bool operator==(const Identity&) const = default;
  };
  static Identity IdentityOf(int fd, const std::filesystem::path& path);

  std::filesystem::path path_;
  int fd_ = -1;
  Identity identity_;
};

// A whole small file. Throws as InputFile; kBadData when larger than max_bytes.
std::string ReadWholeFile(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace phiq
