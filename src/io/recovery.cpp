// Journals come first: a dead run whose commit had begun has written all its outputs, so they get
// their names; taking back the names of those that have them would throw the work away. A hidden
// folder is emptied only where a journal says that a run made it: after an exchange such a name
// holds what was replaced, to which somebody may have added a file.
#include "io/recovery.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "io/journal.h"
#include "io/output_impl.h"
#include "io/renames.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

// Above any journal: the names of 1,024 files and of what they replace, all encoded.
constexpr std::size_t kMaxJournalBytes = 16U << 20;

// A file or folder of ours, and whether its process lives.
struct Found {
  Descriptor fd;
  struct stat st = {};
  LockResult lock = LockResult::kUnsupported;
};

std::optional<Found> Open(int dir_fd, const std::string& name) {
  Found found;
  found.fd = Descriptor(Retry([&] {
    return ::openat(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  }));
  if (!found.fd || ::fstat(found.fd.get(), &found.st) != 0) return std::nullopt;
  if (found.st.st_uid != ::geteuid()) return std::nullopt;
  if (!S_ISREG(found.st.st_mode) && !S_ISDIR(found.st.st_mode)) return std::nullopt;
  found.lock = TryLock(found.fd.get());
  return found;
}

std::string ReadAll(int fd) {
  std::string text;
  std::array<char, 1 << 16> piece;
  while (text.size() < kMaxJournalBytes) {
    const ssize_t n = Retry([&] { return ::read(fd, piece.data(), piece.size()); });
    if (n <= 0) break;
    text.append(piece.data(), static_cast<std::size_t>(n));
  }
  return text;
}

class Recovery {
 public:
  Recovery(int dir_fd, const fs::path& folder) : dir_fd_(dir_fd), folder_(folder) {}

  Recovered Run() {
    const std::vector<std::string> names = ListNames(dir_fd_, folder_);
    std::vector<std::string> dead;
    for (const std::string& name : names)
      if (IsJournalName(name) && ReadJournalAt(name)) dead.push_back(name);
    for (const std::string& name : names)
      if (IsTemporaryName(name)) RemoveStale(name);
    for (const std::string& name : dead) ::unlinkat(dir_fd_, name.c_str(), 0);
    return std::move(result_);
  }

 private:
  // True when its run is dead and there is nothing left to do: what it had begun is finished.
  bool ReadJournalAt(const std::string& name) {
    const std::optional<Found> found = Open(dir_fd_, name);
    if (!found || !S_ISREG(found->st.st_mode)) return false;
    JournalContent content = ReadJournal(ReadAll(found->fd.get()));
    if (found->lock != LockResult::kLocked) {
      // What a live run has exchanged is locked by nobody, but may be wanted back.
      MarkBusy(content.renames);
      return false;
    }
    if (!content.fingerprint.empty() && content.renames.empty() && IsWhole(content)) {
      for (const auto* names : {&content.files, &content.folders})
        for (const StagedName& staged : *names) busy_.push_back(staged.name);
      result_.kept.push_back({{name, found->st.st_ino}, std::move(content)});
      return false;
    }
    staged_.insert(staged_.end(), content.folders.begin(), content.folders.end());
    if (content.renames.empty() || Finish(content.renames)) return true;
    MarkBusy(content.renames);
    return false;
  }

  void MarkBusy(const std::vector<Rename>& renames) {
    for (const Rename& rename : renames) {
      busy_.push_back(rename.from);
      busy_.push_back(rename.aside);
    }
  }

  // All that the run had made is still there.
  bool IsWhole(const JournalContent& content) const {
    if (content.files.empty() && content.folders.empty()) return false;
    const auto stands = [&](const StagedName& staged) {
      return InodeAt(dir_fd_, staged.name) == staged.inode;
    };
    return std::ranges::all_of(content.files, stands) &&
           std::ranges::all_of(content.folders, stands);
  }

  // False when what was replaced could not be removed: a later run tries again.
  bool Finish(std::vector<Rename> list) {
    Renames renames(dir_fd_, folder_, std::move(list), /*fsync=*/true);
    renames.Finish(result_.finished, result_.unfinished);
    try {
      SyncFolder(dir_fd_, folder_, "renamed but not known durable");
      renames.RemoveOld();
      return true;
    } catch (const Error& error) {
      result_.unfinished.emplace_back(error.what());
      return false;
    }
  }

  void RemoveStale(const std::string& name) {
    if (std::ranges::find(busy_, name) != busy_.end()) return;
    const std::optional<Found> found = Open(dir_fd_, name);
    if (!found || found->lock != LockResult::kLocked) return;
    if (S_ISREG(found->st.st_mode)) {
      ::unlinkat(dir_fd_, name.c_str(), 0);
      return;
    }
    const bool is_known = std::ranges::any_of(staged_, [&](const StagedName& staged) {
      return staged.name == name && staged.inode == found->st.st_ino;
    });
    const std::vector<std::string> nothing;
    if (!RemoveFolder(dir_fd_, name, is_known ? nullptr : &nothing)) result_.left.push_back(name);
  }

  int dir_fd_;
  const fs::path& folder_;
  std::vector<std::string> busy_;
  std::vector<StagedName> staged_;
  Recovered result_;
};

}  // namespace

Recovered RecoverFolder(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return {};
  const LockedFolder locked(folder);
  return Recovery(locked.fd(), folder).Run();
}

bool IsOf(const KeptRun& kept, const fs::path& output) {
  const fs::path name = output.has_filename() ? output.filename() : output.parent_path().filename();
  const std::string prefix = TemporaryPrefix(name.native());
  const auto is_of = [&](const StagedName& staged) { return staged.name.starts_with(prefix); };
  return std::ranges::any_of(kept.content.files, is_of) ||
         std::ranges::any_of(kept.content.folders, is_of);
}

void RemoveKept(const fs::path& folder, const KeptRun& kept) {
  const LockedFolder locked(folder);
  const std::optional<Temporary> journal = locked.Adopt(kept.journal.name, kept.journal.inode);
  if (!journal) return;  // another run goes on with it
  for (const StagedName& file : kept.content.files)
    if (InodeAt(locked.fd(), file.name) == file.inode)
      ::unlinkat(locked.fd(), file.name.c_str(), 0);
  for (const StagedName& staged : kept.content.folders)
    if (InodeAt(locked.fd(), staged.name) == staged.inode)
      RemoveFolder(locked.fd(), staged.name, nullptr);
  ::unlinkat(locked.fd(), kept.journal.name.c_str(), 0);
}

}  // namespace phiq
