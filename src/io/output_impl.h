// The inside of OutputFile, shared with StagedFolder: a file that is being written under another
// name than its final one, or a stream.
#pragma once

#include <sys/stat.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/journal.h"
#include "io/output_file.h"
#include "io/temporaries.h"

namespace phiq {

// 0666, or 0777 for folders, less the process's umask.
mode_t DefaultMode(mode_t all) noexcept;

// Syncs a folder's entries. File systems that cannot sync folders pass.
void SyncFolder(int dir_fd, const std::filesystem::path& path, std::string_view what);

// The temporary that a run, which is gone on with, had for this name; nullopt: none.
std::optional<Temporary> AdoptKept(const LockedFolder& locked, const std::filesystem::path& path,
                                   const std::vector<StagedName>* kept);

// What stands there, a last link not followed; nullopt: nothing. Throws kOutput: it is not known.
std::optional<struct stat> StatOutput(const std::filesystem::path& path);

// Throws kOutput when anything stands there, a dangling link included.
void RefuseExisting(const std::filesystem::path& path);

// The parent folder must exist, or come to exist with --mkdir, and take new names.
void PrepareFolder(const std::filesystem::path& path, const OutputOptions& options);

// Disk space for a new file, which then has this size, and zeros wherever nothing gets written.
void ReserveBytes(int fd, const std::filesystem::path& path, std::uint64_t size_bytes);

// Whole reads and writes at a place. Throw kOutput: reading past the end, too.
void WriteAllAt(int fd, const std::filesystem::path& path, std::uint64_t offset_bytes,
                std::span<const std::byte> bytes);
void ReadAllAt(int fd, const std::filesystem::path& path, std::uint64_t offset_bytes,
               std::span<std::byte> bytes);

// Renames within a folder; refuses to replace anything unless `force`.
void RenameInto(int dir_fd, const std::string& from, const std::filesystem::path& final_path,
                bool force);

struct OutputFile::Impl {
  Impl(std::filesystem::path path_in, std::uint64_t size, const OutputOptions& options_in)
      : path(std::move(path_in)), size_bytes(size), options(options_in) {}
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void OpenStream();
  // `kept`  the temporaries of a run that is gone on with, or nullptr.
  void OpenTemporary(const std::vector<StagedName>* kept = nullptr);
  // Under its final name in a folder that is itself a temporary; the folder's owner removes it.
  void OpenStaged(int dir_fd, bool may_exist = false);
  void Sync() const;

  void Reserve() { ReserveBytes(file.fd.get(), path, size_bytes); }
  void WriteStream(std::uint64_t offset_bytes, std::span<const std::byte> bytes);

  void Finish();  // everything but the rename; safe to call again
  void FinishStream();
  Rename ToRename() const;  // when it is finished
  // It has its name, or a later run shall give it.
  void ForgetTemporary();

  std::filesystem::path path;  // the final name, as the user gave it
  std::uint64_t size_bytes;
  OutputOptions options;

  Descriptor folder;  // the parent, open but not locked
  Temporary file;     // name empty: a stream or a staged file
  // The temporary's lock must outlive its checked close, or another run could take it for stale
  // before the rename.
  Descriptor held_lock;
  bool finished = false;

  bool is_stream = false;
  std::size_t max_piece_bytes = 0;  // what a stream takes at once without blocking
  std::mutex mutex;                 // guards the two below
  std::condition_variable turn;
  std::uint64_t position_bytes = 0;
  bool abandoned = false;
};

struct StagedFolder::Impl {
  Impl(std::filesystem::path path_in, std::vector<std::string> owned_in,
       const OutputOptions& options_in)
      : path(std::move(path_in)), owned(std::move(owned_in)), options(options_in) {}
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // The folder or link that stands at the final name; throws when it may not be replaced.
  bool Replaces() const;
  // The name, and what stands there.
  void Check() const;
  void Finish();            // everything but the rename
  Rename ToRename() const;  // when it is finished
  void ForgetTemporary();
  void Unregister();
  void Open(const std::vector<StagedName>* kept = nullptr);

  bool is_kept = false;  // of a run that is gone on with: its files may be there
  std::filesystem::path path;
  std::vector<std::string> owned;
  OutputOptions options;

  Descriptor parent;
  Temporary staging;  // name empty: committed
  // FOLDER/FILE below the parent, so that none of them exists any more after the rename.
  std::vector<RegisteredName> registered;
  std::deque<OutputFile> files;  // a deque: Create hands out references
  std::vector<std::string> names;
};

}  // namespace phiq
