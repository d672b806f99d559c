// Reads by pread into the caller's buffers: a file that shrinks under a mapping would be a SIGBUS.
#include "io/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

#include "io/system.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

Error OpenError(const fs::path& path, int number) {
  std::error_code ignored;
  if (number == ENOENT && fs::is_symlink(fs::symlink_status(path, ignored))) {
    const fs::path target = fs::read_symlink(path, ignored);
    return Error(ErrorCode::kInput, fmt::format("dangling link to {}", Escape(target.native())))
        .In(path.native());
  }
  if (number == ENXIO) {  // a socket, or a device without a driver
    return Error(ErrorCode::kInput, "not a regular file").In(path.native());
  }
  return SystemError(ErrorCode::kInput, path, "", number);
}

}  // namespace

InputFile::InputFile(fs::path path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a pipe must not wait for its writer; it means nothing for regular files.
  Descriptor fd(Retry([&] { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
  if (!fd) throw OpenError(path_, errno);
  identity_ = IdentityOf(fd.get(), path_);
  fd_ = fd.Release();
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      identity_(other.identity_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    path_ = std::move(other.path_);
    fd_ = std::exchange(other.fd_, -1);
    identity_ = other.identity_;
  }
  return *this;
}

InputFile::Identity InputFile::IdentityOf(int fd, const fs::path& path) {
  struct stat st = {};
  if (::fstat(fd, &st) != 0) throw SystemError(ErrorCode::kInput, path, "", errno);
  if (!S_ISREG(st.st_mode)) throw Error(ErrorCode::kInput, "not a regular file").In(path.native());
  Identity identity;
  identity.device = st.st_dev;
  identity.inode = st.st_ino;
  identity.size_bytes = static_cast<std::uint64_t>(st.st_size);
  identity.mtime_s = st.st_mtim.tv_sec;
  identity.mtime_ns = st.st_mtim.tv_nsec;
  return identity;
}

void InputFile::ReadAt(std::uint64_t offset_bytes, std::span<std::byte> out) const {
  if (out.size() > size() || offset_bytes > size() - out.size()) {
    throw Error(ErrorCode::kInternal, fmt::format("read of {} bytes past the end", out.size()))
        .In(path_.native())
        .At(offset_bytes);
  }
  while (!out.empty()) {
    const ssize_t n = Retry(
        [&] { return ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset_bytes)); });
    if (n < 0) {
      throw SystemError(ErrorCode::kInput, path_, "read error", errno).At(offset_bytes);
    }
    if (n == 0) {
      throw Error(ErrorCode::kTryAgain,
                  fmt::format("changed while reading: truncated from {} bytes", size()))
          .In(path_.native())
          .At(offset_bytes);
    }
    out = out.subspan(static_cast<std::size_t>(n));
    offset_bytes += static_cast<std::uint64_t>(n);
  }
}

void InputFile::CheckUnchanged() const {
  if (IdentityOf(fd_, path_) == identity_) return;
  throw Error(ErrorCode::kTryAgain, "changed while reading").In(path_.native());
}

bool InputFile::IsSameFile(const fs::path& other) const {
  struct stat st = {};
  return ::stat(other.c_str(), &st) == 0 && st.st_dev == identity_.device &&
         st.st_ino == identity_.inode;
}

std::string ReadWholeFile(const fs::path& path, std::uint64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes) {
    throw Error(ErrorCode::kBadData, fmt::format("has {} bytes, more than the {} that are allowed",
                                                 FormatCount(file.size()), FormatCount(max_bytes)))
        .In(path.native());
  }
  std::string content(file.size(), '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span(content)));
  file.CheckUnchanged();
  return content;
}

}  // namespace phiq
