// The hidden names under which outputs grow: `.NAME.phiq-tmp.XXXXXXXXXXXX` beside NAME.
// A temporary is locked (flock) for as long as its process lives, so that the next run can tell a
// stale one, which it removes, from one that another run is writing.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "io/system.h"

namespace phiq {

// Removes the temporaries of this process. Async-signal-safe: for a handler that is about to end
// the process.
void UnlinkTemporariesNow() noexcept;

// `.NAME.phiq-tmp.`; the stem of a very long NAME is shortened and marked with a hash of it.
std::string TemporaryPrefix(std::string_view name);

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

  // Removes stale temporaries of `final_name`. In a stale folder only files named in `owned` are
  // removed; links and what belongs to others stays.
  // Throws kTryAgain `locked by another run` when a live process holds one.
  void RemoveStale(const std::filesystem::path& final_path, std::span<const std::string> owned);

  // A new temporary of `final_path`, readable by the owner only.
  Temporary Create(const std::filesystem::path& final_path, RegisteredName::Kind kind);

 private:
  Descriptor fd_;
};

// The folder that holds `path`: "." for a plain name.
std::filesystem::path ParentFolder(const std::filesystem::path& path);

}  // namespace phiq
