// The main job: a checkpoint, or a model of some format, in; files of another format out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "phiq/calibration.h"
#include "phiq/error.h"
#include "phiq/evaluate.h"
#include "phiq/hooks.h"
#include "phiq/plan.h"
#include "phiq/profile.h"

namespace phiq {

enum class NanPolicy { kError, kZero };
enum class OverflowPolicy { kError, kClamp, kF32 };

// Instead of the types of a recipe: tensors get types one by one, so that least is lost within a
// size, or least is taken within a loss. One of the four; none: sensitivities alone.
struct MixOptions {
  std::optional<std::uint64_t> size_bytes;  // of all files of the output, at most
  // Of a device, at most: the files, and what DeviceMemory has besides.
  std::optional<std::uint64_t> device_memory_bytes;
  std::optional<double> bits_per_weight;  // of the tensors, at most
  std::optional<double> kl;  // mean KL divergence from the model on held-back text, nats, at most
  // What the kinds of tensors are worth: read where the file stands, else measured on the
  // calibration text and written there. "": measured, and not kept.
  std::string sensitivities;

  bool has_goal() const noexcept {
    return size_bytes || device_memory_bytes || bits_per_weight || kl;
  }
};

struct ConvertReport;

// A file about a conversion, written beside its outputs.
struct ReportFile {
  std::string path;  // what stands there is replaced
  std::function<std::string(const ConvertReport&)> content;
};

struct ConvertOptions {
  // A checkpoint (folder, file or "organisation/name"), or a file or folder of a format that phiq
  // reads: its weights are then what it decodes to.
  std::string model;
  // A folder (or "organisation/name") whose tokenizer, and other small files, are taken instead of
  // the model's own: some formats have none that others need. Empty: the model's own.
  std::string tokenizer;
  // One target: the file or folder; empty: named after the model and the type; "-": standard
  // output (of formats that are one file). Several: the folder that their default names stand in;
  // empty: the working folder.
  std::string output;
  std::vector<PlanOptions> targets;  // at least one; each weight is read once for all
  std::vector<std::string> ignore_extra;
  std::vector<std::string> adapters;  // LoRA adapters of PEFT, merged into the model in this order
  // Rows of embedding and head up to a multiple of this that gives each token one.
  std::optional<std::uint32_t> pad_vocab;
  NanPolicy nan = NanPolicy::kError;
  OverflowPolicy overflow = OverflowPolicy::kError;
  unsigned threads = 0;                           // 0: all cores
  std::uint64_t memory_limit_bytes = 1ULL << 30;  // ceiling of resident memory
  // For the methods "imatrix" and "feedback", which need it; of others the errors are measured.
  std::optional<CalibrationOptions> calibration;
  // Of each target whose tensors may have different types. Needs a calibration text, or
  // sensitivities; without them a target has the best of its format's recipes that fits. Without a
  // goal PlanOutput tells what sizes would lose, and a ratio of OpenVINO keeps 8 bits by that.
  std::optional<MixOptions> mix;
  // Tokens of context that DeviceMemory is reckoned for; nullopt: 4096, or what the model was
  // trained on where that is less.
  std::optional<std::uint32_t> n_ctx;
  bool force = false;
  bool skip_existing = false;  // leave outputs that stand already; write the others
  bool mkdir = false;
  bool space_check = true;
  bool fsync = true;
  // When it is interrupted or killed, what is done is kept, and the same conversion goes on from
  // there. A conversion of the same outputs without this, or of something else, removes it.
  bool resume = false;
  std::string command = {};  // that goes on, for the message of such a run; "": "the same command"
  bool sha256 = false;       // read the outputs again, for PlannedFile::sha256
  // Gets its name with the outputs. Of all figures but the SHA-256.
  std::optional<ReportFile> page = {};
  // Evaluate the outputs against the model before they get their final names; a threshold that
  // is not met is kNo, and nothing is left. `models`, `reference` and the memory limit are not
  // looked at: those of this conversion stand.
  std::optional<EvalOptions> evaluation;
};

struct PlannedFile {
  std::string path;
  std::uint64_t size_bytes = 0;
  std::string sha256 = {};  // of the file as it stands (ConvertOptions::sha256); else ""
};

// How MixOptions was met.
struct MixReport {
  // Of a plan of the same target: they give the same types. Empty: a recipe was taken.
  std::vector<TensorRule> rules;
  std::string recipe;  // see above: the type
  // The model has to write its text before it is decided which layers keep 8 bits: those of the
  // plan are the reference's, whose bytes are not passed.
  bool is_to_come = false;
  // Mean KL divergences, nats, of the codes that --method reference makes of these types: the sum
  // of what was measured of each kind of tensor; and what the whole model then has, on n_tokens of
  // text that nothing else saw. 0 tokens: not measured.
  double predicted_kl = 0, measured_kl = 0;
  std::uint64_t n_tokens = 0;
  std::uint64_t memory_bytes = 0;  // while it was measured
  double seconds = 0;              // of measuring, estimated before it; 0: nothing was measured
  struct Point {
    std::uint64_t data_bytes = 0;
    double bits_per_weight = 0, predicted_kl = 0;
    bool is_chosen = false;
  };
  // What sizes would lose, the smallest first; with the one that was chosen, if one was.
  std::vector<Point> frontier;
};

// What a device needs to run an output, by the rule of its format's runtime (docs/mix.md).
struct DeviceMemory {
  std::uint32_t n_ctx = 0;          // tokens of context
  std::uint64_t cache_bytes = 0;    // keys and values of so many
  std::uint64_t working_bytes = 0;  // activations and logits
  std::uint64_t files_bytes = 0;    // of the output, all of which are held
  std::string rule;                 // what runtime, and how it keeps these

  std::uint64_t total_bytes() const noexcept { return cache_bytes + working_bytes + files_bytes; }
};

// A plan with its output's exact sizes.
struct OutputPlan {
  std::shared_ptr<const Plan> plan;
  bool is_folder = false;  // the files stand in a folder of their own
  std::string model_name;
  std::string architecture;
  std::vector<PlannedFile> files;
  std::uint64_t output_bytes = 0;      // sum of the files, exact
  std::optional<MixReport> mix;        // where types were chosen by what they lose
  std::optional<DeviceMemory> device;  // nullopt: no runtime runs such files as they are
};

// What is taken of a calibration text or an importance matrix, and what that takes.
struct CalibrationPlan {
  std::string imatrix;             // the file, where it is one
  std::vector<std::string> files;  // of text; of an importance matrix those that it names
  // Of a text's tokens and how they are cut; of an importance matrix' values.
  std::string sha256;
  std::uint64_t n_inputs = 0;  // of weights, that something is known of
  std::uint64_t n_windows = 0;
  // Of a text:
  std::uint64_t n_tokens = 0, n_held_back = 0;
  std::uint32_t n_ctx = 0;
  float shrink = 0;
  // Targets whose weights are corrected; each has hidden states of its own.
  std::uint64_t n_corrected = 0;
  std::uint64_t scratch_bytes = 0;  // of hidden states in files beside the output; 0: in memory
  // Inputs of more columns have moments in diagonal blocks of at most half as many.
  std::uint64_t widest_block = 0;
  // Of windows that the model writes itself: how many at once, and how often all its weights are
  // read for that.
  std::uint64_t n_own_windows = 0, n_own_at_once = 0, n_own_readings = 0;
  std::vector<std::string> notes;  // what memory or the text made otherwise than asked for
  double seconds = 0;              // estimated, from rates measured on this machine
};

struct ConversionPlan {
  std::vector<OutputPlan> outputs;  // one a target
  std::optional<CalibrationPlan> calibration;
  std::uint64_t peak_memory_bytes = 0;
  unsigned threads = 0;
};

// What quantizing a tensor did to its products with inputs of text that no statistics have seen.
struct OutputError {
  std::string tensor;  // PlanLine::display_name
  std::string role;
  std::int32_t layer = -1;
  std::int32_t expert = -1;  // of a tensor of several experts: whose rows
  std::string method;    // that chose the codes: another one than planned where that did not pay
  double error = 0;      // mean square over tokens and outputs
  double reference = 0;  // the same of the codes that --method reference gives
  double seen = 0;       // that of the text that was calibrated on
  bool is_fallback = false;
};

// Whether weights of an input make up for what is lost before it.
struct InputCorrection {
  std::string role;  // of the first weight that has it: queries, keys and values share one
  std::int32_t layer = -1;
  std::int32_t expert = -1;
  bool is_used = false;
  // On held-back text: what their products are off by, sums of squares. Both 0: not known, since
  // the moments have no usable factor.
  double without = 0, with = 0;
};

// How many tokens of a calibration text an expert of the unquantized model is used for.
struct ExpertTokens {
  std::int32_t layer = 0, expert = 0;
  std::uint64_t n_tokens = 0;
  // Enough for statistics of its own; else they are those of all tokens that pass its layer.
  bool has_own = true;
};

// Where a run went on from an earlier one.
struct ResumePoint {
  std::uint64_t n_stages_done = 0, n_stages = 0;
  std::uint64_t n_tensors_done = 0;  // over all targets
};

struct ConvertReport {
  ConversionPlan planned;                 // of the outputs written
  std::vector<std::string> skipped;       // those that stood already (skip_existing)
  std::optional<ResumePoint> resumed_at;  // nullopt: from the beginning
  std::uint64_t source_bytes = 0;         // weight bytes read, twice where a ratio ranks them first
  std::uint64_t n_nan_zeroed = 0;
  std::uint64_t n_clamped = 0;  // over all targets
  double elapsed_s = 0;
  std::uint64_t peak_memory_bytes = 0;  // measured (VmHWM)
  // Of each target: sqrt(sum (w - decoded)^2 / sum w^2) over the quantized tensors.
  std::vector<double> relative_rmse;
  // Of each target, with a calibration text: its tensors that a method chose the codes of.
  std::vector<std::vector<OutputError>> output_errors;
  // Of each target that is corrected: its inputs, in the order of the products.
  std::vector<std::vector<InputCorrection>> corrections;
  std::vector<ExpertTokens> experts;  // with a calibration text, layer by layer
  std::optional<EvalReport> evaluation;
};

// Plans without writing. Opens headers only; reads weights too where the plan depends on them:
// those that a ratio of OpenVINO ranks, and with OverflowPolicy::kF32 those of 16-bit float types.
ConversionPlan PlanOutput(const ConvertOptions& options, const Hooks& hooks);

// Plans, writes, syncs and renames. All outputs and what is written beside them (importance matrix,
// token ids, page) get their names or none does: on any exception the names are as they were
// before, or the message says which are not. Before any work it finishes or removes what a killed
// run left in the outputs' folder, and warns of what it finished. A run that is to be resumed and
// throws kInterrupted leaves what it has done.
ConvertReport Convert(const ConvertOptions& options, const Hooks& hooks);

// Removes the temporary files of this process's running jobs. Async-signal-safe: for a signal
// handler that is about to end the process.
void UnlinkTemporaries() noexcept;

}  // namespace phiq
