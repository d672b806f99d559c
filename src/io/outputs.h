// All that one run writes beside each other: the outputs get their names together, or none does.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/journal.h"
#include "io/output_file.h"
#include "io/scratch_file.h"

namespace phiq {

// A run that another one can go on with, if it is interrupted or killed.
struct Resumable {
  std::string fingerprint;        // of all that decides what is written; not empty
  const KeptRun* kept = nullptr;  // that is gone on with: of this fingerprint
};

class Outputs {
 public:
  explicit Outputs(const OutputOptions& options, std::optional<Resumable> resumable = {});
  ~Outputs();  // without Commit, Keep or a kill: nothing is left
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;

  // An output of files, of these sizes, which stand in one folder; files[root] is the one that
  // readers open first. Or a pipe or device. Outputs may stand in several folders; of a resumable
  // run, what stands in the first one's is kept.
  // Throws   as OutputFile does.
  struct NewFile {
    std::filesystem::path path;
    std::uint64_t size_bytes = 0;
    bool replaces = false;  // what stands there, whatever the options say
  };
  std::vector<OutputFile*> AddFiles(const std::vector<NewFile>& files, std::size_t root);
  // An output that is a folder. Throws as StagedFolder does.
  StagedFolder& AddFolder(const std::filesystem::path& path, std::vector<std::string> owned);

  // Room for what a resumed run must find again, called NAME beside `beside`; holds zeros at first.
  // It is gone after Commit. Only of a resumable run.
  ScratchFile& AddScratch(const std::filesystem::path& beside, std::string_view name,
                          std::uint64_t size_bytes);
  // Of a resumable run: what is written so far is durable when this is noted, and is there when a
  // later run finds the note.
  void NoteStage(std::string_view stage);
  // A later run shall go on from the last note; then the destructor leaves everything.
  void Keep();

  // Syncs everything, then renames. A run that is killed in between has its renames in a folder
  // finished by the next one that writes there.
  // Throws   kOutput: no name has changed, or the message says which ("renamed but not known
  //          durable" excepted).
  void Commit();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace phiq
