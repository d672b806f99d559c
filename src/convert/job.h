// Where a conversion's model is, which outputs are to be made, and what stands at their names: all
// that is decided before anything is read or written.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/open_model.h"
#include "convert/output.h"
#include "io/recovery.h"
#include "phiq/convert.h"

namespace phiq {

OutputOptions OutputOptionsOf(const ConvertOptions& options);

struct Job {
  Source source;
  std::vector<PlanOptions> targets;
  std::vector<std::filesystem::path> paths;  // of the targets
  std::vector<std::string> skipped;
  std::vector<KeptRun> kept = {};  // what interrupted runs left in the outputs' folder
};

// Throws   kUsage: what a target cannot do. As LocateSource.
Job Locate(const ConvertOptions& options, const WarningFn& warn);

// Before any work: what dead runs left, and what stands at the names. Targets that stand already
// are taken out (skip_existing).
//
// `parts_of`  the files of a target with parts.
// Throws   kOutput: a name is taken. kUsage: it is an input's.
void CheckOutputs(const ConvertOptions& options, Job& job,
                  const std::function<std::vector<std::filesystem::path>(std::size_t)>& parts_of,
                  const WarningFn& warn);

// The same of what is written besides: importance matrix, token ids, page.
void CheckOutputsBeside(const ConvertOptions& options, const Job& job, const WarningFn& warn);

// With skip_existing, what is written besides is left where it stands, too: the options without it.
// `left`   gets its names.
ConvertOptions LeaveWhatStandsBeside(ConvertOptions options, std::vector<std::string>& left);

// When all outputs stand, nothing is computed that could be written beside them.
// Throws   kOutput: something is to be.
void RefuseOnlyBeside(const ConvertOptions& options);

// Of what interrupted runs left of these outputs: what this one goes on with (nullptr: nothing);
// the rest is removed.
const KeptRun* ChooseKept(const ConvertOptions& options, std::span<const KeptRun> kept,
                          std::span<const Output> outputs, std::string_view fingerprint,
                          unsigned threads, const Hooks& hooks);

// Several targets stand in one folder. What of it is new goes away again unless Keep is called.
class CommonFolder {
 public:
  // Throws   kOutput: it cannot be made.
  explicit CommonFolder(const ConvertOptions& options);
  ~CommonFolder() { RemoveMade(); }
  CommonFolder(const CommonFolder&) = delete;
  CommonFolder& operator=(const CommonFolder&) = delete;

  void Keep() { made_.clear(); }

 private:
  void RemoveMade();

  std::vector<std::filesystem::path> made_;  // innermost first
};

}  // namespace phiq
