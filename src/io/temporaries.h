// The hidden names under which outputs grow: `.NAME.phiq-tmp.XXXXXXXXXXXX` beside NAME, and the
// journal of a run, `.phiq-run.XXXXXXXXXXXX`. Each is locked (flock) for as long as its process
// lives, so that the next run can tell a stale one from one that another run is writing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/system.h"

namespace phiq {

// Removes the temporaries of this process. Async-signal-safe: for a handler that is about to end
// the process.
void UnlinkTemporariesNow() noexcept;

// `.NAME.phiq-tmp.`; the stem of a very long NAME is shortened and marked with a hash of it.
std::string TemporaryPrefix(std::string_view name);

// A name that TemporaryPrefix has begun, or the journal of a run.
bool IsTemporaryName(std::string_view name) noexcept;
bool IsJournalName(std::string_view name) noexcept;
// A new temporary name of `name`; nothing is created.
std::string NewTemporaryName(std::string_view name);

// All names in an open folder, which messages call `shown`. Throws kOutput: it cannot be read.
std::vector<std::string> ListNames(int dir_fd, const std::filesystem::path& shown);

enum class LockResult { kLocked, kHeldByAnother, kUnsupported };
LockResult TryLock(int fd) noexcept;

// An entry of the fixed table that UnlinkTemporariesNow walks.
class RegisteredName {
 public:
  enum class Kind : char { kFile, kFolder };

  RegisteredName() = default;
  // `name` is relative to the folder `dir_fd`, which must stay open as long as the entry lives.
  // Throws kResources when the table is full.
  RegisteredName(int dir_fd, std::string_view name, Kind kind);
  ~RegisteredName() { Reset(); }
  RegisteredName(RegisteredName&& other) noexcept : slot_(std::exchange(other.slot_, -1)) {}
  RegisteredName& operator=(RegisteredName&& other) noexcept;

  void Reset() noexcept;

 private:
  int slot_ = -1;
};

struct Temporary {
  std::string name;  // in the parent folder
  Descriptor fd;     // locked
  RegisteredName registered;
};

// The parent folder, open and locked for the moment: only one run at a time looks for others and
// creates its temporary. File systems without locks go on without.
class LockedFolder {
 public:
  // Throws kOutput (the folder cannot be opened), kTryAgain (somebody else keeps it locked).
  explicit LockedFolder(const std::filesystem::path& path);
  // Unlocked but still open.
  Descriptor Release() noexcept;

  int fd() const noexcept { return fd_.get(); }

  // Throws kTryAgain `locked by another run` when a live process holds a temporary of `final_path`.
  void RefuseLive(const std::filesystem::path& final_path) const;

  // A new temporary of `final_path`, readable by the owner only.
  Temporary Create(const std::filesystem::path& final_path, RegisteredName::Kind kind);
  // A temporary of a dead run, or its journal, as one of this process; nullopt: it is not there, or
  // another run has it. It is not registered: it stays when this process is killed.
  std::optional<Temporary> Adopt(const std::string& name, std::uint64_t inode) const;
  // A new journal in the folder `path`.
  Temporary CreateJournal(const std::filesystem::path& path);

 private:
  Temporary CreateNamed(const std::string& prefix, const std::filesystem::path& path,
                        RegisteredName::Kind kind);

  Descriptor fd_;
};

// The folder that holds `path`: "." for a plain name.
std::filesystem::path ParentFolder(const std::filesystem::path& path);

}  // namespace phiq
