// One output of a conversion, planned and laid out, whatever its format.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "convert/record.h"
#include "convert/rows.h"
#include "convert/stream.h"
#include "formats/format.h"
#include "formats/layout.h"
#include "io/outputs.h"
#include "phiq/convert.h"

namespace phiq {

struct Output {
  std::shared_ptr<const Plan> plan;
  OutputLayout layout;
  std::filesystem::path path;                // the file, or the folder
  std::vector<std::filesystem::path> files;  // of layout.files
  std::vector<std::string> owned;            // names that phiq may write into such a folder
  // What it says of its own bytes; empty: nothing. The checksums are still to come.
  RecordText record;
  RecordPlace record_place;
  std::vector<Hash128> of_files;  // HashHeads

  std::uint64_t size_bytes() const noexcept;
  std::uint64_t head_bytes() const noexcept;  // what of the files is held in memory
};

// What the output is called without -o: the model's name in lower case and the type.
std::string DefaultName(const std::string& model_name, const PlanOptions& options);

// True where the output is several files, whose names are not known before its layout.
bool HasParts(const Format& format, const PlanOptions& options);

// Before any work: what stands at the output's name may be replaced.
// Throws   as CheckOutputPath and StagedFolder::Check.
void CheckOutputName(const PlanOptions& target, const std::filesystem::path& path,
                     const SideFiles& source, const OutputOptions& options);

// Something stands at the output's name; an empty folder is nothing.
//
// `parts`   of a target that has parts: the files that its plan gives; all of them must stand.
bool OutputStands(const std::filesystem::path& path, const PlanOptions& target,
                  const std::function<std::vector<std::filesystem::path>()>& parts);

// Lays out `plan`. From here on every offset is final. `has_parts`: HasParts.
Output LayOut(const SourceModel& source, std::unique_ptr<Plan> plan, bool has_parts,
              std::filesystem::path path, const WarningFn& warn);

// Warns of parts of a split file of the same name but of another number of parts, which stay.
void WarnOfOtherParts(const Output& output, const WarningFn& warn);

// The target's files, being written.
class OutputWriter {
 public:
  // Throws   as Outputs does.
  OutputWriter(const Output& output, Outputs& outputs);

  StreamTarget stream() const;
  // Writes the checksums, of lines in the plan's order. Nothing to a stream.
  void WriteRecord(std::span<const Hash128> of_lines) const;
  // Where the output is until Outputs::Commit. Not of a split file or a stream.
  std::filesystem::path staged_path() const;

 private:
  void WriteHead(std::size_t file);

  const Output& output_;
  const StagedFolder* folder_ = nullptr;
  std::vector<OutputFile*> files_;
};

}  // namespace phiq
