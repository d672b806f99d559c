// What a run notes beside its temporaries, for a later run to find: the file
// `.phiq-run.XXXXXXXXXXXX`, locked as long as its process lives. It says which hidden folders the
// run made, and which renames it had begun when all was written. Of a run that is to be gone on
// with it also says what was asked for, which temporaries it made, and which of its stages are
// done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/temporaries.h"

namespace phiq {

// One name that an output gets. All strings are names in one folder.
struct Rename {
  std::string from = {};   // the temporary; empty: what stands at `to` is only moved aside
  std::string to = {};     // the final name
  std::string aside = {};  // a temporary name for what stands at `to`, where it cannot be exchanged
  // Of what gets the name (or is moved aside), and of what stood there before (0: nothing): by them
  // a later run knows what was done, and what somebody else has put there.
  std::uint64_t inode = 0;
  std::uint64_t old_inode = 0;
  bool is_folder = false;
  bool force = false;
  bool sync_first = false;                  // what was renamed before must be durable
  std::vector<std::string> old_files = {};  // of a folder that is replaced
};

// A hidden folder that the run made: all in it is the run's.
struct StagedName {
  std::string name;
  std::uint64_t inode = 0;
};

struct JournalContent {
  // Of a run that is to be gone on with: what was asked for, and what it noted of each stage; else
  // empty.
  std::string fingerprint;
  std::vector<std::string> stages;
  std::vector<StagedName> files;
  std::vector<StagedName> folders;
  std::vector<Rename> renames;  // empty, or all of them: a commit began
};

// What a dead run has left that is to be gone on with.
struct KeptRun {
  StagedName journal;
  JournalContent content;
};

class Journal {
 public:
  // In the folder of the outputs. Locks it for a moment.
  // Throws   kOutput, kTryAgain as LockedFolder does.
  explicit Journal(const std::filesystem::path& folder);
  // That of a run that is gone on with.
  // Throws   besides: kTryAgain when another run has it.
  Journal(const std::filesystem::path& folder, const KeptRun& kept);
  ~Journal();  // removes it, unless Keep was called
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // On disk when they return, if `fsync`.
  void NoteRun(std::string_view fingerprint, bool fsync);
  void NoteFile(const StagedName& file, bool fsync);
  void NoteStage(std::string_view stage, bool fsync);
  void Note(const StagedName& folder, bool fsync);
  void Note(const std::vector<Rename>& renames, bool fsync);
  // A later run shall find it.
  void Keep() { keep_ = true; }

  const Descriptor& folder() const noexcept { return folder_; }

 private:
  void Append(std::string_view text, bool fsync);

  std::filesystem::path path_;  // of the folder
  Descriptor folder_;
  Temporary file_;
  bool keep_ = false;
};

// What a journal says, as far as it is whole. Names that are no temporaries of ours, or that lie in
// another folder, are left out.
JournalContent ReadJournal(std::string_view text);

}  // namespace phiq
