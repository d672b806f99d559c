// The write protocol of a single file (docs/reliability.md): hidden temporary, fsync, rename.
#include "io/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>

#include "base/checked.h"
#include "io/output_impl.h"
#include "io/renames.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

bool IsStandardOutput(const fs::path& path) {
  // /dev/stdout is a link: replacing it with --force would take it from the whole machine.
  return path == "-" || path == "/dev/stdout";
}

std::string_view StreamName(const fs::path& path) {
  return IsStandardOutput(path) ? std::string_view("standard output") : path.native();
}

void RefuseTerminal(int fd, const fs::path& path) {
  if (::isatty(fd) == 0) return;
  throw Error(ErrorCode::kUsage, "refusing to write a model to a terminal")
      .In(StreamName(path))
      .Hint("name a file with -o, or redirect");
}

// The nearest folder above `path` that exists.
fs::path NearestFolder(const fs::path& path) {
  fs::path folder = ParentFolder(path);
  struct stat st = {};
  while (::stat(folder.c_str(), &st) != 0 && errno == ENOENT && ParentFolder(folder) != folder) {
    folder = ParentFolder(folder);
  }
  return folder;
}

void CheckFolder(const fs::path& path, const OutputOptions& options) {
  const fs::path parent = ParentFolder(path);
  const fs::path folder = options.mkdir ? NearestFolder(path) : parent;
  struct stat st = {};
  if (::stat(folder.c_str(), &st) != 0) {
    const int number = errno;
    Error error = SystemError(ErrorCode::kOutput, path, "no folder to write into", number);
    throw number == ENOENT ? std::move(error).Hint("--mkdir creates it") : std::move(error);
  }
  if (!S_ISDIR(st.st_mode)) {
    throw SystemError(ErrorCode::kOutput, path, "cannot write into " + Escape(folder.native()),
                      ENOTDIR);
  }
  if (::faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    throw SystemError(ErrorCode::kOutput, path, "cannot write into " + Escape(folder.native()),
                      errno);
  }
}

// Creates one folder; false when the one above it is missing.
bool MakeFolder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0777) == 0) {
    const Descriptor parent(Retry(
        [&] { return ::open(ParentFolder(folder).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (parent) SyncFolder(parent.get(), folder, "cannot sync the folder above");
    return true;
  }
  if (errno == EEXIST) return true;
  if (errno == ENOENT && ParentFolder(folder) != folder) return false;
  throw SystemError(ErrorCode::kOutput, folder, "cannot create the folder", errno);
}

void MakeFolders(const fs::path& folder) {
  if (MakeFolder(folder)) return;
  MakeFolders(ParentFolder(folder));
  if (MakeFolder(folder)) return;
  throw SystemError(ErrorCode::kOutput, folder, "cannot create the folder", ENOENT);
}

}  // namespace

std::optional<struct stat> StatOutput(const fs::path& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) == 0) return st;
  if (errno == ENOENT) return std::nullopt;
  throw SystemError(ErrorCode::kOutput, path, "", errno);
}

bool IsStream(const fs::path& path) {
  if (IsStandardOutput(path)) return true;
  struct stat st = {};
  return ::stat(path.c_str(), &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode));
}

void CheckSpace(const fs::path& path, std::uint64_t size_bytes) {
  struct statvfs space = {};
  const fs::path folder = NearestFolder(path);
  if (Retry([&] { return ::statvfs(folder.c_str(), &space); }) != 0) return;  // nothing is known
  const std::uint64_t free = CheckedMul(space.f_bavail, space.f_frsize).value_or(UINT64_MAX);
  if (size_bytes <= free) return;
  throw Error(ErrorCode::kOutput,
              fmt::format("needs {} ({} bytes), {} ({} bytes) free on this disk",
                          FormatBytes(size_bytes), size_bytes, FormatBytes(free), free))
      .In(path.native())
      .Hint("choose another -o, or --no-space-check");
}

void CheckOutputPath(const fs::path& path, const OutputOptions& options) {
  if (IsStandardOutput(path)) return RefuseTerminal(STDOUT_FILENO, path);
  if (IsStream(path)) return;
  const fs::path name = path.filename();
  if (name.empty() || name == "." || name == "..") {
    throw Error(ErrorCode::kUsage, "is a folder, not a file name").In(path.native());
  }
  if (const std::optional<struct stat> st = StatOutput(path)) {
    if (S_ISDIR(st->st_mode)) throw Error(ErrorCode::kUsage, "is a folder").In(path.native());
    if (!S_ISREG(st->st_mode) && !S_ISLNK(st->st_mode)) {
      throw Error(ErrorCode::kOutput, "is a device or socket").In(path.native());
    }
    if (!options.force) RefuseExisting(path);
  }
  CheckFolder(path, options);
}

void RefuseExisting(const fs::path& path) {
  if (!StatOutput(path)) return;
  throw Error(ErrorCode::kOutput, "exists").In(path.native()).Hint("--force replaces it");
}

void PrepareFolder(const fs::path& path, const OutputOptions& options) {
  CheckFolder(path, options);
  if (options.mkdir) MakeFolders(ParentFolder(path));
}

mode_t DefaultMode(mode_t all) noexcept {
  const mode_t mask = ::umask(0077);  // umask cannot be asked, only set; never wider in between
  ::umask(mask);
  return all & ~mask;
}

void SyncFolder(int dir_fd, const fs::path& path, std::string_view what) {
  if (Retry([&] { return ::fsync(dir_fd); }) == 0) return;
  if (errno == EINVAL || errno == EROFS || errno == ENOTSUP || errno == ENOSYS) return;
  throw SystemError(ErrorCode::kOutput, path, what, errno);
}

void RenameInto(int dir_fd, const std::string& from, const fs::path& final_path, bool force) {
  const std::string to = final_path.filename().native();
  const auto fail = [&](int number) {
    if (number == EEXIST && !force) {
      throw Error(ErrorCode::kOutput, "exists now, and did not when the work began")
          .In(final_path.native())
          .Hint("--force replaces it");
    }
    throw SystemError(ErrorCode::kOutput, final_path, "rename failed", number);
  };
  if (force) {
    if (::renameat(dir_fd, from.c_str(), dir_fd, to.c_str()) != 0) fail(errno);
    return;
  }
  if (::renameat2(dir_fd, from.c_str(), dir_fd, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) fail(errno);
  // An older kernel or file system: a hard link does not replace either.
  if (::linkat(dir_fd, from.c_str(), dir_fd, to.c_str(), 0) == 0) {
    if (::unlinkat(dir_fd, from.c_str(), 0) != 0) fail(errno);
    return;
  }
  if (errno != EPERM && errno != ENOSYS && errno != ENOTSUP) fail(errno);
  // Nor hard links (folders, FAT, some network file systems): look, then rename.
  struct stat st = {};
  if (::fstatat(dir_fd, to.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) fail(EEXIST);
  if (::renameat(dir_fd, from.c_str(), dir_fd, to.c_str()) != 0) fail(errno);
}

OutputFile::Impl::~Impl() {
  if (folder && !file.name.empty()) ::unlinkat(folder.get(), file.name.c_str(), 0);
  file.registered.Reset();  // before `folder` closes
}

void OutputFile::Impl::OpenStream() {
  is_stream = true;
  const bool is_stdout = IsStandardOutput(path);
  file.fd = Descriptor(Retry([&] {
    // A copy of standard output, so that closing it can be checked without taking it from others.
    return is_stdout ? ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                     : ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  }));
  if (!file.fd) throw SystemError(ErrorCode::kOutput, StreamName(path), "cannot open", errno);
  RefuseTerminal(file.fd.get(), path);
  struct stat st = {};
  const bool is_regular = ::fstat(file.fd.get(), &st) == 0 && S_ISREG(st.st_mode);
  max_piece_bytes = is_regular ? std::size_t{1} << 20 : PIPE_BUF;
}

// The temporary that a run, which is gone on with, had for this name.
std::optional<Temporary> AdoptKept(const LockedFolder& locked, const fs::path& path,
                                   const std::vector<StagedName>* kept) {
  if (kept == nullptr) return std::nullopt;
  const std::string prefix = TemporaryPrefix(path.filename().native());
  for (const StagedName& staged : *kept)
    if (staged.name.starts_with(prefix)) return locked.Adopt(staged.name, staged.inode);
  return std::nullopt;
}

void OutputFile::Impl::OpenTemporary(const std::vector<StagedName>* kept) {
  PrepareFolder(path, options);
  LockedFolder locked(ParentFolder(path));
  locked.RefuseLive(path);
  // Looked at again under the lock: a run that ended a moment ago has left its output, not its
  // lock.
  if (!options.force) RefuseExisting(path);
  std::optional<Temporary> adopted = AdoptKept(locked, path, kept);
  file = adopted ? std::move(*adopted) : locked.Create(path, RegisteredName::Kind::kFile);
  folder = locked.Release();
}

void OutputFile::Impl::OpenStaged(int dir_fd, bool may_exist) {
  const fs::path name = path.filename();
  const int mode = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (may_exist ? 0 : O_EXCL);
  file.fd = Descriptor(Retry([&] { return ::openat(dir_fd, name.c_str(), mode, 0600); }));
  if (!file.fd) throw SystemError(ErrorCode::kOutput, path, "cannot create", errno);
  Reserve();
}

void ReserveBytes(int fd, const fs::path& path, std::uint64_t size_bytes) {
  const auto size = static_cast<off_t>(size_bytes);
  const auto fail = [&] {
    return SystemError(ErrorCode::kOutput, path, fmt::format("cannot reserve {} bytes", size_bytes),
                       errno);
  };
  if (size > 0 && Retry([&] { return ::fallocate(fd, 0, 0, size); }) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS && errno != EINVAL)
    throw fail();
  if (Retry([&] { return ::ftruncate(fd, size); }) != 0) throw fail();
}

void WriteAllAt(int fd, const fs::path& path, std::uint64_t offset_bytes,
                std::span<const std::byte> bytes) {
  // Of longer writes the page cache makes large folios, which cost up to twice the system time.
  constexpr std::size_t kMostAtOnce = 512U << 10;
  while (!bytes.empty()) {
    const ssize_t n = Retry([&] {
      return ::pwrite(fd, bytes.data(), std::min(bytes.size(), kMostAtOnce),
                      static_cast<off_t>(offset_bytes));
    });
    if (n <= 0) {
      throw SystemError(ErrorCode::kOutput, path, "write error", n == 0 ? EIO : errno)
          .At(offset_bytes);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset_bytes += static_cast<std::uint64_t>(n);
  }
}

void ReadAllAt(int fd, const fs::path& path, std::uint64_t offset_bytes,
               std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = Retry(
        [&] { return ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes)); });
    if (n <= 0) {
      throw SystemError(ErrorCode::kOutput, path, "cannot read what was written",
                        n == 0 ? EIO : errno)
          .At(offset_bytes);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset_bytes += static_cast<std::uint64_t>(n);
  }
}

void OutputFile::Impl::WriteStream(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  const auto check_abandoned = [this] {
    if (abandoned) throw Error(ErrorCode::kOutput, "writing was given up").In(StreamName(path));
  };
  std::unique_lock lock(mutex);
  turn.wait(lock, [&] { return abandoned || position_bytes >= offset_bytes; });
  check_abandoned();
  if (position_bytes != offset_bytes) {
    throw Error(ErrorCode::kInternal, "a stream was written twice").At(offset_bytes);
  }
  while (!bytes.empty()) {
    // Unlocked while it waits, so that Abandon never does; the turn is ours until position moves
    // on.
    lock.unlock();
    constexpr int kPollMs = 100;
    pollfd ready = {.fd = file.fd.get(), .events = POLLOUT, .revents = 0};
    ssize_t n = ::poll(&ready, 1, kPollMs);
    if (n > 0) {
      n = ::write(file.fd.get(), bytes.data(), std::min(bytes.size(), max_piece_bytes));
      if (n == 0) {
        n = -1;
        errno = EIO;
      }
    }
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
      throw SystemError(ErrorCode::kOutput, StreamName(path), "write error", errno);
    }
    if (n > 0) bytes = bytes.subspan(static_cast<std::size_t>(n));
    lock.lock();
    check_abandoned();
    if (n > 0) offset_bytes += static_cast<std::uint64_t>(n);
  }
  position_bytes = offset_bytes;
  turn.notify_all();
}

void OutputFile::Impl::Sync() const {
  if (options.fsync && Retry([&] { return ::fdatasync(file.fd.get()); }) != 0)
    throw SystemError(ErrorCode::kOutput, path, "fsync failed", errno);
}

void OutputFile::Impl::Finish() {
  if (is_stream) return FinishStream();
  if (finished) return;
  struct stat st = {};
  if (::fstat(file.fd.get(), &st) != 0) throw SystemError(ErrorCode::kOutput, path, "", errno);
  if (static_cast<std::uint64_t>(st.st_size) != size_bytes) {
    throw Error(
        ErrorCode::kOutput,
        fmt::format("has {} bytes after writing {}: somebody changed it", st.st_size, size_bytes))
        .In(path.native());
  }
  // Not tried again: after a failed fsync the kernel may have dropped the pages, and a second call
  // reports success.
  if (options.fsync && Retry([&] { return ::fsync(file.fd.get()); }) != 0) {
    throw SystemError(ErrorCode::kOutput, path, "fsync failed", errno);
  }
  mode_t mode = DefaultMode(0666);
  if (folder && options.force) {
    const std::optional<struct stat> old = StatOutput(path);
    if (old && S_ISREG(old->st_mode)) mode = old->st_mode & 0777;
  }
  if (::fchmod(file.fd.get(), mode) != 0) {
    throw SystemError(ErrorCode::kOutput, path, "cannot set its mode", errno);
  }
  held_lock = Descriptor(::fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!held_lock) throw SystemError(ErrorCode::kOutput, path, "", errno);
  if (::close(file.fd.Release()) != 0 && errno != EINTR) {
    throw SystemError(ErrorCode::kOutput, path, "close failed", errno);
  }
  finished = true;
}

Rename OutputFile::Impl::ToRename() const {
  const std::string name = path.filename().native();
  Rename rename{.from = file.name, .to = name, .aside = NewTemporaryName(name)};
  rename.inode = InodeAt(folder.get(), file.name);
  rename.force = options.force;
  const std::optional<struct stat> old = StatOutput(path);
  if (!old) return rename;
  if (S_ISDIR(old->st_mode)) throw Error(ErrorCode::kOutput, "is a folder").In(path.native());
  rename.old_inode = old->st_ino;
  return rename;
}

void OutputFile::Impl::ForgetTemporary() {
  file.registered.Reset();
  file.name.clear();
  held_lock.Reset();
}

void OutputFile::Impl::FinishStream() {
  if (position_bytes != size_bytes) {
    throw Error(ErrorCode::kInternal,
                fmt::format("stream ended at {} of {} bytes", position_bytes, size_bytes));
  }
  if (options.fsync && Retry([&] { return ::fsync(file.fd.get()); }) != 0 && errno != EINVAL &&
      errno != EROFS && errno != ENOTSUP) {
    throw SystemError(ErrorCode::kOutput, StreamName(path), "fsync failed", errno);
  }
  if (::close(file.fd.Release()) != 0 && errno != EINTR) {
    throw SystemError(ErrorCode::kOutput, StreamName(path), "close failed", errno);
  }
}

OutputFile::OutputFile(const fs::path& path, std::uint64_t size_bytes, const OutputOptions& options)
    : impl_(std::make_unique<Impl>(path, size_bytes, options)) {
  CheckOutputPath(path, options);
  if (IsStream(path)) {
    impl_->OpenStream();
  } else {
    impl_->OpenTemporary();
    impl_->Reserve();
  }
}

OutputFile::OutputFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OutputFile::~OutputFile() = default;
OutputFile::OutputFile(OutputFile&&) noexcept = default;
OutputFile& OutputFile::operator=(OutputFile&&) noexcept = default;

bool OutputFile::is_stream() const noexcept { return impl_->is_stream; }

fs::path OutputFile::staged_path() const { return ParentFolder(impl_->path) / impl_->file.name; }

void OutputFile::WriteAt(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  if (bytes.size() > impl_->size_bytes || offset_bytes > impl_->size_bytes - bytes.size()) {
    throw Error(ErrorCode::kInternal, fmt::format("{} bytes written past the end", bytes.size()))
        .In(impl_->path.native())
        .At(offset_bytes);
  }
  if (impl_->is_stream) {
    impl_->WriteStream(offset_bytes, bytes);
  } else {
    WriteAllAt(impl_->file.fd.get(), impl_->path, offset_bytes, bytes);
  }
}

void OutputFile::ReadAt(std::uint64_t offset_bytes, std::span<std::byte> bytes) const {
  ReadAllAt(impl_->file.fd.get(), impl_->path, offset_bytes, bytes);
}

void OutputFile::Abandon() noexcept {
  const std::lock_guard lock(impl_->mutex);
  impl_->abandoned = true;
  impl_->turn.notify_all();
}

void OutputFile::Commit() {
  impl_->Finish();
  if (!impl_->folder) return;  // a stream, or staged: its folder is renamed
  RenameInto(impl_->folder.get(), impl_->file.name, impl_->path, impl_->options.force);
  impl_->ForgetTemporary();
  if (impl_->options.fsync)
    SyncFolder(impl_->folder.get(), impl_->path, "renamed but not known durable");
}

}  // namespace phiq
