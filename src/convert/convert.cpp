// The pass list of a conversion. Reads from top to bottom: locate, describe, plan, lay out, write,
// commit.
#include "phiq/convert.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <ranges>
#include <set>
#include <utility>

#include "base/sha256.h"
#include "convert/calibrated_run.h"
#include "convert/calibration.h"
#include "convert/evaluate.h"
#include "convert/job.h"
#include "convert/memory.h"
#include "convert/output.h"
#include "convert/prepare.h"
#include "convert/stages.h"
#include "convert/stream.h"
#include "formats/format.h"
#include "io/input_file.h"
#include "io/outputs.h"
#include "io/parallel.h"
#include "io/temporaries.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

void WarnOfReplacedWeights(const ConvertReport& report, const WarningFn& warn) {
  if (report.n_nan_zeroed > 0) {
    warn({ErrorCode::kNumeric,
          fmt::format("--nan zero: {} NaN weights became 0", report.n_nan_zeroed)});
  }
  if (report.n_clamped > 0) {
    warn({ErrorCode::kNumeric,
          fmt::format("--overflow clamp: {} weights became +-65504", report.n_clamped)});
  }
}

// Of each tensor once, whatever the formats.
void WarnOfOutliers(const Prepared& prepared, const StreamResult& streamed, const WarningFn& warn) {
  std::map<std::string, std::map<std::size_t, std::uint64_t>> counts;  // of each target
  for (const LineResult& result : streamed.lines) {
    const Plan& plan = *prepared.targets[result.target].plan;
    if (result.n_outliers > 0)
      counts[plan.lines[result.line].display_name()][result.target] += result.n_outliers;
  }
  for (const auto& [name, of_targets] : counts) {
    const std::uint64_t count = std::ranges::max(of_targets | std::views::values);
    warn({ErrorCode::kNumeric,
          fmt::format(
              "tensor '{}': {} more than {:.0f} times as large as the median of {}: what "
              "shares a scale with {} is lost; is the checkpoint damaged?",
              Escape(name), count == 1 ? "a weight is" : fmt::format("{} weights are", count),
              kOutlierRatio, count == 1 ? "its row" : "their rows", count == 1 ? "it" : "them")});
  }
}

EvalOptions EvaluationOptions(const ConvertOptions& options) {
  EvalOptions evaluation = *options.evaluation;
  evaluation.ignore_extra = options.ignore_extra;
  evaluation.adapters = options.adapters;
  evaluation.pad_vocab = options.pad_vocab;
  evaluation.memory_limit_bytes = options.memory_limit_bytes;
  return evaluation;
}

// When a name is taken: a mistake in the options is told first, or the next run would end with it.
// What is wrong with the input waits.
void CheckRequest(const ConvertOptions& options, const Job& job) {
  try {
    Prepare(options, job, {}, Depth::kOptions);
    if (options.evaluation)
      CheckEvaluation({options.model, options.model}, EvaluationOptions(options),
                      /*read_text=*/false);
  } catch (const Error& error) {
    const bool is_of_text = options.evaluation && error.path() == options.evaluation->text;
    if (is_of_text || error.code() == ErrorCode::kUsage || error.code() == ErrorCode::kResources)
      throw;
  }
}

// Where weights decide on types, as if they were all alike.
std::vector<fs::path> PlannedFiles(const ConvertOptions& options, const Job& job,
                                   std::size_t target) {
  Job one{job.source, {job.targets[target]}, {job.paths[target]}, {}};
  return Prepare(options, std::move(one), {}, Depth::kOptions).targets.front().files;
}

std::uint64_t CountStages(const Prepared& prepared) {
  return prepared.calibration ? CountStages(*prepared.calibration, prepared.source)
                              : 1 + prepared.source.model.config.n_layers;
}

StreamResult Write(const Prepared& prepared, std::span<const StreamTarget> streams,
                   const StreamOptions& options, const Hooks& hooks, Stages& stages,
                   std::vector<InputSquares>& inputs, ConvertReport& report) {
  if (prepared.calibration)
    return WriteCalibrated(*prepared.calibration, prepared.source, streams, options, hooks, stages,
                           inputs, report.corrections);
  Meter meter(hooks, WeightsOf(prepared.source, streams, {}));
  if (!stages.are_kept()) return StreamTensors(prepared.source, streams, options, {}, meter);
  // What is of no layer, then layer by layer.
  StreamResult result;
  for (std::size_t n = 0; n < CountStages(prepared); ++n) {
    StreamStage stage;
    stage.takes = [n](const PlanLine& line) {
      return (line.table ? 0 : static_cast<std::size_t>(line.layer + 1)) == n;
    };
    StageNote note;
    if (n < stages.done().size()) {
      note = stages.done()[n];
      meter.done += WeightsOf(prepared.source, streams, stage);
    } else {
      note.result = StreamTensors(prepared.source, streams, options, stage, meter);
      stages.Note(note);
    }
    result.Add(note.result);
  }
  return result;
}

// Read piece by piece; `tick` learns of each piece's bytes.
std::string Sha256Of(const InputFile& file, const std::function<void(std::size_t)>& tick = {}) {
  std::vector<std::byte> buffer(1U << 20);
  Sha256 hash;
  for (std::uint64_t at = 0; at < file.size();) {
    const std::size_t n = std::min<std::uint64_t>(buffer.size(), file.size() - at);
    file.ReadAt(at, std::span(buffer).first(n));
    hash.Add(std::span(buffer).first(n));
    at += n;
    if (tick) tick(n);
  }
  return hash.Hex();
}

// Figures of a text that the codes were chosen by are better than those of any other.
void WarnOfSeenText(const ConvertOptions& options, const Calibration& calibration,
                    const WarningFn& warn) {
  const std::string& path =
      options.evaluation->text.empty() ? options.evaluation->ids : options.evaluation->text;
  const std::string sha256 = Sha256Of(InputFile(path));
  if (std::ranges::find(calibration.text.sources, sha256, &calibrate::TextSource::sha256) !=
      calibration.text.sources.end())
    warn({ErrorCode::kBadData,
          fmt::format("{}: is what the codes are chosen by, too: its figures are not those of "
                      "unseen text",
                      Escape(path))});
}

// A small file that gets its name with the others.
void AddFile(Outputs& outputs, const fs::path& path, std::span<const std::byte> bytes,
             bool replaces = false) {
  outputs.AddFiles({{path, bytes.size(), replaces}}, 0).front()->WriteAt(0, bytes);
}

// The text's token ids, where they are wanted.
void AddIds(const ConvertOptions& options, const Prepared& prepared, Outputs& outputs) {
  if (!options.calibration || options.calibration->ids_out.empty()) return;
  const std::string ids = calibrate::FormatIds(prepared.calibration->text);
  AddFile(outputs, options.calibration->ids_out, std::as_bytes(std::span(ids)));
}

void AddPage(const ConvertOptions& options, const ConvertReport& report, Outputs& outputs) {
  if (!options.page) return;
  const std::string page = options.page->content(report);
  AddFile(outputs, options.page->path, std::as_bytes(std::span(page)), /*replaces=*/true);
}

// The text's importance matrix, where one is wanted.
void AddImportance(const ConvertOptions& options, const Prepared& prepared,
                   std::span<const InputSquares> inputs, Outputs& outputs) {
  if (!options.calibration || options.calibration->imatrix_out.empty()) return;
  const fs::path path = options.calibration->imatrix_out;
  std::vector<std::string> texts;
  for (const calibrate::TextSource& source : prepared.calibration->text.sources)
    texts.push_back(fs::path(source.path).filename().string());
  const std::vector<std::byte> bytes =
      EncodeImportance(path.extension() == ".dat" ? ImportanceForm::kDat : ImportanceForm::kTensors,
                       inputs, texts, prepared.calibration->text.n_ctx);
  AddFile(outputs, path, bytes);
}

// Checksums of each target, of what was written last.
void WriteRecords(const std::deque<OutputWriter>& writers, const Prepared& prepared,
                  const StreamResult& streamed) {
  for (std::size_t t = 0; t < writers.size(); ++t) {
    std::vector<Hash128> of_lines(prepared.targets[t].plan->lines.size());
    for (const LineResult& result : streamed.lines)
      if (result.target == t) of_lines[result.line].Add(result.hash);
    writers[t].WriteRecord(of_lines);
  }
}

// The figures of each target, of its lines as they were written last.
void Summarize(const Prepared& prepared, const StreamResult& streamed, ConvertReport& report) {
  for (std::size_t t = 0; t < prepared.targets.size(); ++t) {
    const Plan& plan = *prepared.targets[t].plan;
    std::vector<OutputError> errors;
    double squared_error = 0, squared_weight = 0;
    for (const LineResult& result : streamed.lines) {
      if (result.target != t) continue;
      const PlanLine& line = plan.lines[result.line];
      report.n_clamped += result.n_clamped;
      squared_error += result.squared_error;
      squared_weight += result.squared_weight;
      if (!result.products) continue;
      errors.push_back({line.display_name(), std::string(line.role_name()), line.layer,
                        result.expert, std::string(result.method->name), result.products->held_back,
                        result.products->reference, result.products->seen,
                        result.method != line.method});
    }
    report.relative_rmse.push_back(squared_weight > 0 ? std::sqrt(squared_error / squared_weight)
                                                      : 0);
    report.output_errors.push_back(std::move(errors));
  }
}

// The outputs where they wait for their final names, against the checkpoint.
EvalReport EvaluateOutputs(const ConvertOptions& options, const std::deque<OutputWriter>& writers,
                           std::span<const Output> outputs, const Hooks& hooks) {
  std::vector<EvalInput> inputs;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    inputs.push_back({writers[i].staged_path().string(), outputs[i].path.string()});
  const EvalInput reference{options.model, options.model};
  // Planning has said what there is to warn of.
  const Hooks silent = {hooks.progress, {}, hooks.stop_requested};
  EvalReport report = EvaluateInputs(inputs, &reference, EvaluationOptions(options), silent);
  if (report.unmet.empty()) return report;
  throw Error(ErrorCode::kNo, fmt::format("{}", fmt::join(report.unmet, "; ")))
      .Hint("the output was not kept");
}

// Reads the outputs again: what is hashed is what others will read.
void HashFiles(ConversionPlan& planned, const Hooks& hooks) {
  std::uint64_t n_bytes = 0;
  for (const OutputPlan& output : planned.outputs) n_bytes += output.output_bytes;
  Meter meter(hooks, n_bytes, "bytes");
  const auto tick = [&](std::size_t n) {
    if (hooks.stop_requested && hooks.stop_requested())
      throw Error(ErrorCode::kInterrupted, "interrupted; the outputs are complete");
    meter.done += n;
    meter.Tell();
  };
  for (OutputPlan& output : planned.outputs) {
    for (PlannedFile& file : output.files) file.sha256 = Sha256Of(InputFile(file.path), tick);
  }
}

}  // namespace

ConversionPlan PlanOutput(const ConvertOptions& options, const Hooks& hooks) {
  return Describe(Prepare(options, Locate(options, WarnOrIgnore(hooks.warn)), hooks, Depth::kPlan));
}

ConvertReport Convert(const ConvertOptions& asked, const Hooks& hooks) {
  const auto start = std::chrono::steady_clock::now();
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  ConvertReport report;
  std::vector<std::string> left;
  const ConvertOptions options = LeaveWhatStandsBeside(asked, left);
  Job job = Locate(options, warn);
  try {
    CheckOutputs(
        options, job, [&](std::size_t target) { return PlannedFiles(options, job, target); }, warn);
  } catch (const Error&) {
    CheckRequest(options, job);
    throw;
  }
  report.skipped = job.skipped;
  report.skipped.insert(report.skipped.end(), left.begin(), left.end());
  if (job.targets.empty()) {
    RefuseOnlyBeside(options);
    return report;
  }
  CheckOutputsBeside(options, job, warn);
  const auto check_evaluation = [&options] {
    if (options.evaluation)
      CheckEvaluation({options.model, options.model}, EvaluationOptions(options),
                      /*read_text=*/true);
  };
  // What is wrong with the options or the disk is told before the model writes for minutes.
  if (WritesOwnText(options)) {
    const Prepared planned = Prepare(options, job, {}, Depth::kOptions);
    if (job.kept.empty()) CheckSpaceOfAll(options, planned);
    check_evaluation();
  }
  const std::vector<KeptRun> all_kept = std::move(job.kept);
  const Prepared prepared = Prepare(options, std::move(job), hooks, Depth::kRun);
  report.planned = Describe(prepared);
  check_evaluation();  // a text that cannot be used, before any work
  if (options.evaluation && prepared.calibration)
    WarnOfSeenText(options, *prepared.calibration, warn);

  const Calibration* const calibration = prepared.calibration ? &*prepared.calibration : nullptr;
  std::string fingerprint;
  if (options.resume)
    fingerprint = FingerprintOf(options, prepared.source, prepared.targets,
                                calibration != nullptr ? &calibration->planned : nullptr);
  const KeptRun* const kept =
      ChooseKept(options, all_kept, prepared.targets, fingerprint, prepared.memory.threads, hooks);
  if (kept == nullptr) CheckSpaceOfAll(options, prepared);  // else it has its room already

  CommonFolder common(options);
  std::optional<Resumable> resumable;
  if (options.resume) resumable = {fingerprint, kept};
  Outputs outputs(OutputOptionsOf(options), resumable);
  std::deque<OutputWriter> writers;
  std::vector<StreamTarget> streams;
  for (std::size_t i = 0; i < prepared.targets.size(); ++i) {
    writers.emplace_back(prepared.targets[i], outputs);
    streams.push_back(writers.back().stream());
  }
  // From here on tensors may be written in any order.
  const StreamOptions stream_options{prepared.memory.threads, prepared.memory.chunk_elements,
                                     options.nan, options.overflow};
  std::vector<InputSquares> inputs;
  report.corrections.resize(prepared.targets.size());
  const fs::path& first = prepared.targets.front().path;
  Stages stages(options.resume ? &outputs : nullptr,
                kept != nullptr ? std::span<const std::string>(kept->content.stages)
                                : std::span<const std::string>(),
                streams, first.has_filename() ? first : first.parent_path());
  if (kept != nullptr) {
    report.resumed_at = {stages.done().size(), CountStages(prepared), 0};
    std::set<std::pair<std::size_t, std::size_t>> done;  // parts of experts make one tensor
    for (const StageNote& note : stages.done())
      for (const LineResult& line : note.result.lines) done.emplace(line.target, line.line);
    report.resumed_at->n_tensors_done = done.size();
  }
  const auto keep_when_interrupted = [&](const auto& work) {
    try {
      work();
    } catch (Error& error) {
      if (error.code() != ErrorCode::kInterrupted || !options.resume) throw;
      outputs.Keep();
      common.Keep();
      throw std::move(error).Hint(
          fmt::format("what is done is kept, and goes on with: {}",
                      options.command.empty() ? "the same command" : options.command));
    }
  };
  StreamResult streamed;
  keep_when_interrupted(
      [&] { streamed = Write(prepared, streams, stream_options, hooks, stages, inputs, report); });
  report.source_bytes = prepared.scored_bytes + streamed.bytes_read;
  report.n_nan_zeroed = streamed.n_nan_zeroed;
  Summarize(prepared, streamed, report);
  for (const InputSquares& input : inputs)
    if (input.weight.role == TensorRole::kExpertGate)
      report.experts.push_back({input.weight.layer, input.weight.expert, input.n_tokens,
                                input.n_tokens >= calibrate::kLeastTokensOfExpert});
  WriteRecords(writers, prepared, streamed);
  WarnOfReplacedWeights(report, warn);
  WarnOfOutliers(prepared, streamed, warn);
  for (const Output& target : prepared.targets) WarnOfOtherParts(target, warn);
  if (options.evaluation)
    keep_when_interrupted(
        [&] { report.evaluation = EvaluateOutputs(options, writers, prepared.targets, hooks); });
  const auto measure = [&] {
    report.elapsed_s =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    report.peak_memory_bytes = PeakMemoryBytes();
  };
  AddImportance(options, prepared, inputs, outputs);
  AddIds(options, prepared, outputs);
  measure();
  AddPage(options, report, outputs);
  outputs.Commit();
  common.Keep();
  if (options.sha256) HashFiles(report.planned, hooks);
  measure();
  return report;
}

void UnlinkTemporaries() noexcept { UnlinkTemporariesNow(); }

}  // namespace phiq
