// A rename cannot fail halfway, several can. Each but the last is made so that it can be undone:
// what it replaces is kept under a hidden name (exchanged where the file system can, else moved
// aside first) until all are made.
#include "io/renames.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "io/output_impl.h"
#include "phiq/text.h"

namespace phiq {

namespace fs = std::filesystem;

std::uint64_t InodeAt(int dir_fd, const std::string& name) noexcept {
  struct stat st = {};
  const bool is_there = ::fstatat(dir_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
  return is_there ? std::uint64_t{st.st_ino} : 0;
}

bool RemoveFolder(int dir_fd, const std::string& name, const std::vector<std::string>* files) {
  const Descriptor fd(Retry([&] {
    return ::openat(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }));
  if (!fd) return false;
  std::vector<std::string> all;
  try {
    all = files == nullptr ? ListNames(fd.get(), name) : *files;
  } catch (const Error&) {
    return false;
  }
  int failure = 0;  // the first one says more than that the folder is not empty then
  for (const std::string& file : all)
    if (::unlinkat(fd.get(), file.c_str(), 0) != 0 && errno != ENOENT && failure == 0)
      failure = errno;
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) == 0) return true;
  if (failure != 0) errno = failure;
  return false;
}

Renames::Renames(int dir_fd, fs::path folder, std::vector<Rename> renames, bool fsync, bool is_last)
    : dir_fd_(dir_fd),
      folder_(std::move(folder)),
      renames_(std::move(renames)),
      fsync_(fsync),
      is_last_(is_last),
      states_(renames_.size(), State::kNone) {}

void Renames::Make() {
  for (std::size_t i = 0; i < renames_.size(); ++i) MakeOne(i);
}

std::vector<std::string> Renames::Undo() {
  std::vector<std::string> stand;
  for (std::size_t i = renames_.size(); i-- > 0;) {
    try {
      UndoOne(i);
    } catch (const Error&) {
      stand.push_back(Escape(PathOf(renames_[i].to).native()));
    }
  }
  return stand;
}

void Renames::MakeOne(std::size_t i) {
  const Rename& rename = renames_[i];
  State& state = states_[i];
  if (rename.sync_first && fsync_) SyncFolder(dir_fd_, folder_, "fsync failed");
  const std::uint64_t there = InodeAt(dir_fd_, rename.to);
  if (rename.from.empty()) {
    if (there == rename.inode) MoveAside(i);
    return;
  }
  if (there == 0 || !rename.force) {
    RenameInto(dir_fd_, rename.from, PathOf(rename.to), false);
    state = State::kAdded;
    return;
  }
  if (!rename.is_folder && is_last_ && i + 1 == renames_.size()) {
    // Nothing comes after it that could fail.
    RenameInto(dir_fd_, rename.from, PathOf(rename.to), true);
    state = State::kReplaced;
    return;
  }
  if (::renameat2(dir_fd_, rename.from.c_str(), dir_fd_, rename.to.c_str(), RENAME_EXCHANGE) == 0) {
    state = State::kExchanged;
    return;
  }
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
    throw SystemError(ErrorCode::kOutput, PathOf(rename.to), "rename failed", errno);
  MoveAside(i);
  RenameInto(dir_fd_, rename.from, PathOf(rename.to), false);
}

void Renames::MoveAside(std::size_t i) {
  RenameInto(dir_fd_, renames_[i].to, PathOf(renames_[i].aside), false);
  states_[i] = State::kMovedAside;
}

void Renames::UndoOne(std::size_t i) {
  const Rename& rename = renames_[i];
  const State state = std::exchange(states_[i], State::kNone);
  if (state == State::kNone) return;
  if (state == State::kExchanged) {
    if (::renameat2(dir_fd_, rename.from.c_str(), dir_fd_, rename.to.c_str(), RENAME_EXCHANGE) != 0)
      throw SystemError(ErrorCode::kOutput, PathOf(rename.to), "rename failed", errno);
    return;
  }
  if (!rename.from.empty() && InodeAt(dir_fd_, rename.to) == rename.inode)
    RenameInto(dir_fd_, rename.to, PathOf(rename.from), false);
  if (state == State::kMovedAside) RenameInto(dir_fd_, rename.aside, PathOf(rename.to), false);
}

bool Renames::IsAsItWas(const Rename& rename) const {
  if (InodeAt(dir_fd_, rename.to) != rename.old_inode) return false;
  const Descriptor fd(Retry([&] {
    return ::openat(dir_fd_, rename.to.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }));
  return !fd ||
         std::ranges::all_of(ListNames(fd.get(), PathOf(rename.to)), [&](const std::string& name) {
           return std::ranges::find(rename.old_files, name) != rename.old_files.end();
         });
}

void Renames::Finish(std::vector<std::string>& finished, std::vector<std::string>& failed) {
  for (std::size_t i = 0; i < renames_.size(); ++i) {
    const Rename& rename = renames_[i];
    const std::uint64_t there = InodeAt(dir_fd_, rename.to);
    if (rename.old_inode != 0 && InodeAt(dir_fd_, rename.from) == rename.old_inode) {
      states_[i] = State::kExchanged;  // made before, whatever has come to the name since
      if (there == rename.inode) finished.push_back(rename.to);
      continue;
    }
    try {
      if (!rename.from.empty() && there == rename.inode) {
        finished.push_back(rename.to);  // made before; what it replaced may still be there
        if (rename.old_inode != 0 && InodeAt(dir_fd_, rename.aside) == rename.old_inode)
          states_[i] = State::kMovedAside;
        continue;
      }
      if (!rename.from.empty() && InodeAt(dir_fd_, rename.from) != rename.inode)
        throw Error(ErrorCode::kOutput, "what was written for it is gone");
      if (there != 0 && !rename.from.empty() && !IsAsItWas(rename))
        throw Error(ErrorCode::kOutput, "something else stands there now");
      if (there == 0 && InodeAt(dir_fd_, rename.aside) == rename.old_inode && rename.old_inode != 0)
        states_[i] = State::kMovedAside;
      const State before = states_[i];
      MakeOne(i);
      if (before == State::kMovedAside) states_[i] = before;
      if (!rename.from.empty()) finished.push_back(rename.to);
    } catch (const Error& error) {
      Error placed = error;
      failed.emplace_back(placed.In(PathOf(rename.to).native()).what());
    }
  }
}

const std::string& Renames::OldName(std::size_t i) const {
  static const std::string kNone;
  if (states_[i] == State::kExchanged) return renames_[i].from;
  return states_[i] == State::kMovedAside ? renames_[i].aside : kNone;
}

std::vector<std::string> Renames::OldNames() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < renames_.size(); ++i)
    if (const std::string& name = OldName(i); !name.empty()) names.push_back(name);
  return names;
}

void Renames::RemoveOld() {
  for (std::size_t i = 0; i < renames_.size(); ++i) {
    const std::string& name = OldName(i);
    // A link or a file; else a folder.
    if (name.empty() || ::unlinkat(dir_fd_, name.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno == EISDIR && RemoveFolder(dir_fd_, name, &renames_[i].old_files)) continue;
    throw SystemError(ErrorCode::kOutput, PathOf(renames_[i].to),
                      fmt::format("replaced, but what stood there remains as {}", Escape(name)),
                      errno);
  }
}

}  // namespace phiq
