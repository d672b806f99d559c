// One output of a conversion, planned and laid out, whatever its format.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "convert/rows.h"
#include "convert/stream.h"
#include "formats/layout.h"
#include "io/output_file.h"
#include "phiq/convert.h"

namespace phiq {

struct Output {
  Plan plan;
  OutputLayout layout;
  std::filesystem::path path;                // the file, or the folder
  std::vector<std::filesystem::path> files;  // of layout.files
  std::vector<std::string> owned;            // names that phiq may write into such a folder

  std::uint64_t size_bytes() const noexcept;
  std::uint64_t head_bytes() const noexcept;  // what of the files is held in memory
};

// What the output is called without -o: the model's name in lower case and the type.
std::string DefaultName(const std::string& model_name, const PlanOptions& options);

// Before any work: what stands at the output's name may be replaced.
// Throws   as CheckOutputPath and StagedFolder::Check.
void CheckOutputName(const PlanOptions& target, const std::filesystem::path& path,
                     const SideFiles& source, const OutputOptions& options);

// Lays out `plan`. From here on every offset is final.
Output LayOut(const SourceModel& source, Plan plan, const ConvertOptions& options,
              std::filesystem::path path, const WarningFn& warn);

// The target's files, being written.
class OutputWriter {
 public:
  // Throws   as OutputFile and StagedFolder do.
  OutputWriter(const Output& output, const OutputOptions& options);

  StreamTarget stream() const;
  // Where the output is until Commit. Not of a split file or a stream.
  std::filesystem::path staged_path() const;
  void Commit();

 private:
  const Output& output_;
  std::vector<OutputFile> plain_;  // of a target that is no folder
  std::unique_ptr<StagedFolder> folder_;
  std::vector<OutputFile*> files_;
};

}  // namespace phiq
