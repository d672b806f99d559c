// What a text or an importance matrix brings, and what memory bears of it: hidden states go to the
// disk first, then moments are cut into smaller blocks.
#include "convert/calibration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/sha256.h"
#include "calibrate/correction.h"
#include "calibrate/inputs.h"
#include "calibrate/own_text.h"
#include "calibrate/text_stream.h"
#include "convert/line_inputs.h"
#include "convert/meter.h"
#include "convert/written_model.h"
#include "engine/linear_algebra.h"
#include "io/output_file.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "plan/methods.h"

namespace phiq {
namespace {

using calibrate::TextStream;

// What is run must not depend on the number of threads: memory is planned for so many, and more run
// where it bears them.
constexpr unsigned kPlannedThreads = 2;
// What PlanMemory will want besides for each of them: chunks of some hundred wide rows.
constexpr std::uint64_t kStreamThreadBytes = 24ULL << 20;

Needs NeedsOf(std::span<const PlanOptions> targets) {
  Needs needs = Needs::kNothing;
  for (const PlanOptions& target : targets)
    if (const Method* method = FindCommonMethod(target.method))
      needs = std::max(needs, method->needs);
  return needs;
}

std::uint64_t CountCorrected(const ConvertOptions& options, std::span<const PlanOptions> targets) {
  if (!options.calibration->corrects) return 0;
  return static_cast<std::uint64_t>(
      std::ranges::count(targets, kFeedback.name, &PlanOptions::method));
}

// What stays and what is taken turn by turn.
struct Size {
  Needs needs = Needs::kNothing;
  std::uint64_t n_tokens = 0;  // with those held back
  std::uint64_t n_corrected = 0;
  std::size_t widest_block = calibrate::kWidestBlock;
  bool is_on_disk = false;
  bool is_kept = false;  // for a run that goes on

  // Of hidden states.
  std::uint64_t StateBytes(const ModelConfig& config) const {
    return (1 + n_corrected) * TextStream::StateFloats(config, n_tokens, is_kept) * sizeof(float);
  }
  std::uint64_t HeldBytes(const ModelConfig& config) const {
    std::uint64_t most = 0;  // floats of one input
    for (const calibrate::MatrixInput& input : calibrate::InputsOf(config)) {
      const std::uint64_t n = input.n_columns;
      // Vectors of the probes; what they lack, and both again while a correction is measured.
      std::uint64_t floats = (n_corrected > 0 ? 6 : 2) * calibrate::Probe::kTokens * n;
      if (needs == Needs::kMoments) {
        std::uint64_t largest = 0;
        for (const std::uint64_t size : calibrate::BlocksOf(n, widest_block)) {
          floats += (n_corrected > 0 ? 2 : 1) * size * size;
          largest = std::max<std::uint64_t>(largest, size);
        }
        floats += 2 * engine::kPanelRows * largest;  // while a factor is inverted
      }
      most = std::max(most, floats);
    }
    return most * sizeof(float) + (is_on_disk ? 0 : StateBytes(config));
  }
};

// Hidden states go to the disk first, then blocks become smaller.
Size FitToMemory(const ConvertOptions& options, const SourceModel& source, Needs needs,
                 std::uint64_t n_corrected) {
  const CalibrationOptions& wanted = *options.calibration;
  const ModelConfig& config = source.model.config;
  if (wanted.n_ctx == 0) throw Error(ErrorCode::kUsage, "--calibration-ctx 0: no tokens");
  Size size{
      needs,
      wanted.n_tokens + calibrate::HeldBackWindows(wanted.n_tokens, wanted.n_ctx) * wanted.n_ctx,
      n_corrected};
  size.is_kept = size.is_on_disk = options.resume;
  const bool has_blocks = wanted.widest_block > 0;
  if (has_blocks) size.widest_block = wanted.widest_block;
  const auto n_bytes = [&] {
    return FixedBytes(source) + size.HeldBytes(config) +
           std::max(TextStream::WorkBytes(config, wanted.n_ctx, kPlannedThreads),
                    kPlannedThreads * kStreamThreadBytes);
  };
  while (n_bytes() > options.memory_limit_bytes) {
    if (!size.is_on_disk) {
      size.is_on_disk = true;
    } else if (needs == Needs::kMoments && !has_blocks &&
               size.widest_block > 2 * calibrate::kBlockMultiple) {
      size.widest_block /= 2;
    } else {
      throw Error(ErrorCode::kResources,
                  fmt::format("--memory-limit {}: calibrating this model needs at least {}",
                              FormatBytes(options.memory_limit_bytes), FormatBytes(n_bytes())))
          .Hint("--memory-limit " + LimitFor(n_bytes()));
    }
  }
  return size;
}

void CheckMethods(const ConvertOptions& options, std::span<const PlanOptions> targets) {
  const CalibrationOptions& wanted = *options.calibration;
  if (!wanted.imatrix.empty() && wanted.has_text())
    throw Error(ErrorCode::kUsage, "--imatrix and --calibrate exclude each other");
  if (!wanted.imatrix_out.empty() && !wanted.has_text())
    throw Error(ErrorCode::kUsage, "--imatrix-out needs a text")
        .Hint("--calibrate self or --calibrate FILE");
  for (const PlanOptions& target : targets) {
    if (target.method == kFeedback.name && !wanted.has_text())
      throw Error(ErrorCode::kUsage,
                  "--method feedback needs a text: an importance matrix has no correlations")
          .Hint("--calibrate FILE, or --method imatrix");
    if (IsStream(options.output))
      throw Error(
          ErrorCode::kUsage,
          fmt::format("-o {}: with statistics of inputs tensors are not written front to back",
                      Escape(options.output)))
          .Hint("give -o a file name");
    if (target.method != "reference" && FindCommonMethod(target.method) == nullptr)
      throw Error(ErrorCode::kUsage,
                  fmt::format("--method {}: takes nothing from a text", target.method))
          .Hint("--method feedback, imatrix and search do");
  }
  if (wanted.has_text() && options.nan != NanPolicy::kError)
    throw Error(ErrorCode::kUsage, "--nan zero: a model that has NaN cannot be run on a text")
        .Hint("repair the checkpoint, or --method search, which needs no text");
}

// The model as the writer of its own text, within the memory limit.
class OwnText {
 public:
  // Throws   kResources: not even one window fits. kUnsupported: nothing to begin texts with.
  OwnText(const ConvertOptions& options, const SourceModel& source, unsigned threads,
          const WarningFn& warn)
      : source_(source), threads_(threads) {
    const ModelConfig& config = source.model.config;
    text_.n_ctx = options.calibration->n_ctx;
    const std::uint64_t of_window = calibrate::BytesOfWindow(config, text_.n_ctx);
    const auto fixed = [&] {
      return FixedBytes(source) + TextStream::WorkBytes(config, 1, threads_);
    };
    while (threads_ > 1 && fixed() + of_window > options.memory_limit_bytes) --threads_;
    if (fixed() + of_window > options.memory_limit_bytes)
      throw Error(ErrorCode::kResources,
                  fmt::format("--memory-limit {}: this model needs at least {} to write its own "
                              "text in windows of {} tokens",
                              FormatBytes(options.memory_limit_bytes),
                              FormatBytes(fixed() + of_window), text_.n_ctx))
          .Hint(fmt::format("--memory-limit {}, a smaller --calibration-ctx, or --calibrate FILE",
                            LimitFor(fixed() + of_window)));
    fixed_bytes_ = fixed();
    text_.memory_bytes = options.memory_limit_bytes - fixed_bytes_;
    openings_ = calibrate::Openings(source.model.tokenizer, config.vocab_size, warn);
  }

  // What it takes, for the plan.
  void Plan(std::uint64_t n_windows, Calibration& calibration) {
    text_.n_windows = n_windows;
    const ModelConfig& config = source_.model.config;
    CalibrationPlan& planned = calibration.planned;
    planned.n_own_windows = n_windows;
    planned.n_own_at_once = calibrate::WindowsAtOnce(config, text_);
    planned.n_own_readings =
        (n_windows + planned.n_own_at_once - 1) / planned.n_own_at_once * (text_.n_ctx - 1);
    calibration.own_bytes =
        fixed_bytes_ + planned.n_own_at_once * calibrate::BytesOfWindow(config, text_.n_ctx);
  }

  std::vector<std::uint32_t> Write(const Hooks& hooks) {
    Meter meter(hooks, text_.n_windows * (text_.n_ctx - 1), "tokens");
    text_.written = [&meter](std::uint64_t n_tokens) { meter.done += n_tokens; };
    return calibrate::WriteOwnText(*source_.stored, openings_, text_,
                                   {.threads = threads_, .hooks = meter.parallel_hooks()});
  }

 private:
  const SourceModel& source_;
  unsigned threads_;
  std::uint64_t fixed_bytes_ = 0;
  calibrate::OwnTextOptions text_;
  std::vector<calibrate::Opening> openings_;
};

std::string FileName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

// Of what is taken of it, whichever form its file has.
std::string Sha256Of(const Importance& matrix) {
  Sha256 hash;
  for (const auto& [weight, squares] : matrix.squares) {
    const std::string name =
        fmt::format("{} {} {}\n", RoleName(weight.role), weight.layer, weight.expert);
    hash.Add(std::as_bytes(std::span(name)));
    hash.Add(std::as_bytes(std::span(squares)));
  }
  return hash.Hex();
}

Calibration PrepareMatrix(const std::string& path, const SourceModel& source,
                          const WarningFn& warn) {
  Calibration calibration;
  calibration.matrix = ReadImportance(path, source.model, warn);
  calibration.planned.imatrix = FileName(path);
  calibration.planned.sha256 = Sha256Of(*calibration.matrix);
  for (const std::string& dataset : calibration.matrix->datasets)
    calibration.planned.files.push_back(FileName(dataset));
  calibration.planned.n_inputs = calibration.matrix->n_entries;
  calibration.planned.n_windows = calibration.matrix->n_chunks;
  return calibration;
}

// What running a layer takes besides what is held.
std::uint64_t WorkBytes(const Calibration& calibration, const ModelConfig& config,
                        unsigned threads) {
  return calibration.matrix ? 0 : TextStream::WorkBytes(config, calibration.text.n_ctx, threads);
}

}  // namespace

bool WritesOwnText(const ConvertOptions& options) {
  return options.calibration &&
         std::ranges::find(options.calibration->texts, calibrate::kOwnText) !=
             options.calibration->texts.end();
}

Calibration PrepareCalibration(const ConvertOptions& options, const SourceModel& source,
                               std::vector<PlanOptions>& targets, bool writes_own, unsigned threads,
                               const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  CheckMethods(options, targets);
  const CalibrationOptions& wanted = *options.calibration;
  if (!wanted.has_text()) return PrepareMatrix(wanted.imatrix, source, warn);
  // What no memory would cure is told before what more memory would.
  calibrate::CheckContext(wanted.n_ctx, source.model.config);
  Needs needs = NeedsOf(targets);
  Size size = FitToMemory(options, source, needs, CountCorrected(options, targets));
  Calibration calibration;
  std::optional<OwnText> own;
  if (WritesOwnText(options)) own.emplace(options, source, threads, warn);
  const auto write_own = [&](std::uint64_t n_windows) {
    own->Plan(n_windows, calibration);
    return writes_own ? own->Write(hooks) : std::vector<std::uint32_t>();
  };
  calibration.text = calibrate::ReadCalibrationText(
      source.model.tokenizer, source.model.config,
      {wanted.texts, wanted.ids, wanted.n_tokens, wanted.n_ctx, write_own}, warn);
  const calibrate::CalibrationText& text = calibration.text;
  CalibrationPlan& planned = calibration.planned;
  const auto note = [&](std::string what) {
    warn({ErrorCode::kBadData, what});
    planned.notes.push_back(std::move(what));
  };
  if (!text.sha256.empty() && calibrate::HasFewDistinct(text, source.model.config.vocab_size)) {
    for (PlanOptions& target : targets) {
      if (target.method != kFeedback.name && target.method != kImatrix.name) continue;
      note(
          fmt::format("search instead of {}: the text has too few distinct tokens", target.method));
      target.method = kSearch.name;
    }
    needs = NeedsOf(targets);
  }
  if (text.windows.size() < calibrate::kLeastTokensForCorrelations) {
    for (PlanOptions& target : targets) {
      if (target.method != kFeedback.name) continue;
      target.method = kImatrix.name;
      note(fmt::format("{} tokens are too few for correlations: imatrix instead of feedback",
                       text.windows.size()));
    }
    needs = NeedsOf(targets);
  }
  const std::vector<calibrate::MatrixInput> inputs = calibrate::InputsOf(source.model.config);
  std::set<std::uint64_t> widths;
  for (const calibrate::MatrixInput& input : inputs) widths.insert(input.n_columns);
  for (const std::uint64_t n : widths) {
    const std::vector<std::size_t> blocks = calibrate::BlocksOf(n, size.widest_block);
    if (needs == Needs::kMoments && blocks.size() > 1)
      planned.notes.push_back(
          fmt::format("an input of {} columns has its moments in {} blocks of at most {}", n,
                      blocks.size(), blocks.front()));
  }
  size.needs = needs;
  size.n_tokens = text.windows.size() + text.held_back.size();
  size.n_corrected = CountCorrected(options, targets);
  calibration.shrink = wanted.shrink;
  calibration.corrects = wanted.corrects;
  calibration.widest_block = size.widest_block;
  calibration.is_on_disk = size.is_on_disk;
  calibration.held_bytes = size.HeldBytes(source.model.config);
  for (const calibrate::TextSource& file : text.sources)
    planned.files.push_back(FileName(file.path));
  planned.sha256 = text.sha256;
  planned.n_inputs = inputs.size();
  if (const std::uint32_t n = source.model.config.n_experts; n > 0 && needs != Needs::kNothing)
    planned.notes.push_back(fmt::format(
        "each of the {} experts is used for some of the tokens; one with fewer than {} of them has "
        "the statistics of all",
        n, calibrate::kLeastTokensOfExpert));
  planned.n_windows = text.n_windows();
  planned.n_tokens = text.windows.size();
  planned.n_held_back = text.held_back.size();
  planned.n_ctx = text.n_ctx;
  planned.shrink = wanted.shrink;
  planned.n_corrected = size.n_corrected;
  planned.scratch_bytes = size.is_on_disk ? size.StateBytes(source.model.config) : 0;
  planned.widest_block = size.widest_block;
  return calibration;
}

void Apply(const Calibration& calibration, const SourceModel& source, Plan& plan,
           const WarningFn& warn) {
  const auto method = std::ranges::find(plan.decisions, "method", &Decision::subject);
  const bool is_used = std::ranges::any_of(
      plan.lines, [](const PlanLine& line) { return line.reference != nullptr; });
  if (method == plan.decisions.end() || !is_used) {
    warn({ErrorCode::kUsage,
          fmt::format("{} {}: {}, so the {} is not used", plan.format, plan.type,
                      method == plan.decisions.end() ? "method reference takes nothing from inputs"
                                                     : "no tensor has a scale",
                      calibration.matrix ? "importance matrix" : "calibration text")});
    return;
  }
  const CalibrationPlan& planned = calibration.planned;
  if (calibration.matrix) {
    std::size_t n_left = 0;
    for (PlanLine& line : plan.lines) {
      if (line.reference == nullptr || HasStatistics(*calibration.matrix, source.weights, line))
        continue;
      line.method = std::exchange(line.reference, nullptr);
      ++n_left;
    }
    if (n_left > 0)
      method->reason += fmt::format("; {} that {} says nothing of are as without it", n_left,
                                    Escape(planned.imatrix));
  }
  const auto add = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) plan.facts.emplace_back(fmt::format("phiq.{}", name), value);
  };
  add("calibration_imatrix", planned.imatrix);
  add("calibration_files", fmt::format("{}", fmt::join(planned.files, ", ")));
  add("calibration_inputs", fmt::format("{}", planned.n_inputs));
  add("calibration_windows", fmt::format("{}", planned.n_windows));
  if (calibration.matrix) return add("calibration_sha256", planned.sha256);
  add("calibration_ctx", fmt::format("{}", planned.n_ctx));
  if (std::ranges::any_of(plan.lines, IsFeedback)) {
    add("calibration_shrink", fmt::format("{}", planned.shrink));
    add("calibration_block", fmt::format("{}", planned.widest_block));
  }
  if (IsCorrected(calibration, plan)) {
    add("calibration_correction", fmt::format("{}", calibrate::kCorrectionShare));
    plan.decisions.push_back({"correction", "on",
                              "weights make up for what the layers before them lost, where that "
                              "helps on held-back text"});
  }
  // Before the text is written something as long stands for it, so that the plan's sizes are right.
  add("calibration_sha256", planned.sha256.empty() ? std::string(64, '0') : planned.sha256);
}

MemoryPlan PlanMemory(Calibration& calibration, std::span<const StreamTarget> targets,
                      const SourceModel& source, std::uint64_t header_bytes, unsigned threads,
                      std::uint64_t limit_bytes, OverflowPolicy overflow) {
  for (const StreamTarget& target : targets)
    if (IsCorrected(calibration, *target.plan))
      calibration.held_bytes += WrittenModel::HeldBytes(target);
  MemoryPlan memory = PlanMemory(targets, source, header_bytes, calibration.held_bytes, threads,
                                 limit_bytes, overflow);
  const std::uint64_t held = FixedBytes(source) + 2 * header_bytes + calibration.held_bytes;
  const auto work = [&] { return WorkBytes(calibration, source.model.config, memory.threads); };
  while (memory.threads > 1 && held + work() > limit_bytes) --memory.threads;
  memory.peak_bytes = std::max({memory.peak_bytes, held + work(), calibration.own_bytes});
  return memory;
}

bool IsCorrected(const Calibration& calibration, const Plan& plan) {
  return calibration.corrects && std::ranges::any_of(plan.lines, IsFeedback);
}

}  // namespace phiq
