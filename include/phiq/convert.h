// The main job: a checkpoint in, files of another format out.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "phiq/error.h"
#include "phiq/evaluate.h"
#include "phiq/hooks.h"
#include "phiq/plan.h"
#include "phiq/profile.h"

namespace phiq {

enum class NanPolicy { kError, kZero };
enum class OverflowPolicy { kError, kClamp, kF32 };

struct ConvertOptions {
  std::string model;  // folder, file or "organisation/name"
  // One target: the file or folder; empty: named after the model and the type; "-": standard
  // output (of formats that are one file). Several: the folder that their default names stand in;
  // empty: the working folder.
  std::string output;
  std::vector<PlanOptions> targets;  // at least one; each weight is read once for all
  std::vector<std::string> ignore_extra;
  std::vector<std::string> adapters;  // LoRA adapters of PEFT, merged into the model in this order
  NanPolicy nan = NanPolicy::kError;
  OverflowPolicy overflow = OverflowPolicy::kError;
  unsigned threads = 0;                           // 0: all cores
  std::uint64_t memory_limit_bytes = 1ULL << 30;  // ceiling of resident memory
  bool force = false;
  bool skip_existing = false;  // leave outputs that stand already; write the others
  bool mkdir = false;
  bool space_check = true;
  bool fsync = true;
  // Evaluate the outputs against the checkpoint before they get their final names; a threshold that
  // is not met is kNo, and nothing is left. `models` and `reference` are not looked at. Takes the
  // memory that Evaluate takes.
  std::optional<EvalOptions> evaluation;
};

struct PlannedFile {
  std::string path;
  std::uint64_t size_bytes = 0;
};

// A plan with its output's exact sizes.
struct OutputPlan {
  std::shared_ptr<const Plan> plan;
  bool is_folder = false;  // the files stand in a folder of their own
  std::string model_name;
  std::string architecture;
  std::vector<PlannedFile> files;
  std::uint64_t output_bytes = 0;  // sum of the files, exact
};

struct ConversionPlan {
  std::vector<OutputPlan> outputs;  // one a target
  std::uint64_t peak_memory_bytes = 0;
  unsigned threads = 0;
};

struct ConvertReport {
  ConversionPlan planned;            // of the outputs written
  std::vector<std::string> skipped;  // those that stood already (skip_existing)
  std::uint64_t source_bytes = 0;    // weight bytes read, twice where a ratio ranks them first
  std::uint64_t n_nan_zeroed = 0;
  std::uint64_t n_clamped = 0;  // over all targets
  double elapsed_s = 0;
  std::uint64_t peak_memory_bytes = 0;  // measured (VmHWM)
  // Of each target: sqrt(sum (w - decoded)^2 / sum w^2) over the quantized tensors.
  std::vector<double> relative_rmse;
  std::optional<EvalReport> evaluation;
};

// Plans without writing. Opens headers only; reads weights too where the plan depends on them:
// those that a ratio of OpenVINO ranks, and with OverflowPolicy::kF32 those of 16-bit float types.
ConversionPlan PlanOutput(const ConvertOptions& options, const Hooks& hooks);

// Plans, writes, syncs and renames. All outputs get their names or none does: on any exception the
// names are as they were before, or the message says which are not. Before any work it finishes or
// removes what a killed run left in the outputs' folder, and warns of what it finished.
ConvertReport Convert(const ConvertOptions& options, const Hooks& hooks);

// Removes the temporary files of this process's running jobs. Async-signal-safe: for a signal
// handler that is about to end the process.
void UnlinkTemporaries() noexcept;

}  // namespace phiq
