// What the files of this room share when they talk to the kernel: an owned descriptor, calls that
// are tried again when a signal interrupts them, and errors that carry strerror's text.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phiq/error.h"

namespace phiq {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  ~Descriptor() { Reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int Release() noexcept { return std::exchange(fd_, -1); }
  void Reset() noexcept {
    if (fd_ >= 0) ::close(Release());
  }

 private:
  int fd_ = -1;
};

// Calls until no signal interrupts. Not for close(2), which has closed even so.
template <typename Call>
auto Retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

// "PATH: WHAT: strerror(number)". Running out of descriptors, threads or memory is kResources,
// whatever `code` says.
Error SystemError(ErrorCode code, const std::filesystem::path& path, std::string_view what,
                  int number);

// Whether anything has this name; a link that leads nowhere counts: opening it tells why.
// Throws   `code`: the system does not say. What is not known to be missing must not be passed
// over.
bool Stands(const std::filesystem::path& path, ErrorCode code);

// The names in a folder, sorted. Not by std::filesystem's iterators: GCC 12's end the program when
// memory runs out between two entries.
// Throws   `code`: it cannot be read.
std::vector<std::string> NamesIn(const std::filesystem::path& folder, ErrorCode code);

}  // namespace phiq
