// All that one run writes beside each other: the outputs get their names together, or none does.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/output_file.h"

namespace phiq {

class Outputs {
 public:
  explicit Outputs(const OutputOptions& options);
  ~Outputs();  // without Commit: nothing is left
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;

  // An output of files, of these sizes, which stand in one folder; files[root] is the one that
  // readers open first. Or a pipe or device.
  // Throws   as OutputFile does.
  struct NewFile {
    std::filesystem::path path;
    std::uint64_t size_bytes = 0;
  };
  std::vector<OutputFile*> AddFiles(const std::vector<NewFile>& files, std::size_t root);
  // An output that is a folder. Throws as StagedFolder does.
  StagedFolder& AddFolder(const std::filesystem::path& path, std::vector<std::string> owned);

  // Syncs everything, then renames. A run that is killed in between has its renames finished by the
  // next one that writes into the folder.
  // Throws   kOutput: no name has changed, or the message says which ("renamed but not known
  //          durable" excepted).
  void Commit();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace phiq
