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
#include <memory>
#include <set>
#include <utility>

#include "base/sha256.h"
#include "checkpoint/open_input.h"
#include "convert/calibrated_run.h"
#include "convert/calibration.h"
#include "convert/calibration_time.h"
#include "convert/evaluate.h"
#include "convert/memory.h"
#include "convert/mix.h"
#include "convert/open_model.h"
#include "convert/output.h"
#include "convert/score.h"
#include "convert/stages.h"
#include "convert/stream.h"
#include "formats/format.h"
#include "io/input_file.h"
#include "io/outputs.h"
#include "io/parallel.h"
#include "io/recovery.h"
#include "io/temporaries.h"
#include "phiq/text.h"
#include "stored/fill_width.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStandardOutput = "-";

OutputOptions OutputOptionsOf(const ConvertOptions& options) {
  return {options.force, options.mkdir, options.space_check, options.fsync};
}

// Where each target goes: OUT, or its default name in the working folder; several targets go by
// their default names into the folder OUT.
std::vector<fs::path> OutputPaths(const ConvertOptions& options, const Source& source) {
  std::vector<fs::path> paths;
  for (const PlanOptions& target : options.targets) {
    const fs::path name = DefaultName(source.name, target);
    if (options.targets.size() > 1) {
      paths.push_back(fs::path(options.output) / name);
    } else {
      paths.push_back(options.output.empty() ? name : fs::path(options.output));
    }
  }
  return paths;
}

Error EvaluatesWhole() {
  return Error(ErrorCode::kUsage, "--eval-text needs an output in one file or folder")
      .Hint("phiq eval measures a split file when it is written");
}

// What only some targets can do.
void CheckTargets(const ConvertOptions& options) {
  const auto usage = [](std::string message) {
    return Error(ErrorCode::kUsage, std::move(message));
  };
  if (options.targets.empty()) throw Error(ErrorCode::kInternal, "a conversion without a target");
  if (options.sha256 && !options.output.empty() && IsStream(options.output))
    throw usage("--sha256: what went to a pipe cannot be read again")
        .Hint("sha256sum behind the pipe");
  for (const PlanOptions& target : options.targets) {
    const Format& format = FindFormat(target.format);
    if (options.overflow == OverflowPolicy::kF32 && !format.may_widen)
      throw usage(fmt::format("--overflow f32: {} cannot keep one tensor in F32", format.title))
          .Hint("--overflow clamp, or a precision that computes in float32");
    const bool is_file = !format.file_ending.empty();
    if (options.output == kStandardOutput && (options.targets.size() > 1 || !is_file))
      throw usage("-o -: only one output that is a file can go to standard output")
          .Hint(options.targets.size() > 1
                    ? "several go to a folder"
                    : fmt::format("with {} -o names a folder", format.title));
    // A stream would wait for its next byte for ever.
    if (options.targets.size() == 1 && !format.may_stream && !options.output.empty() &&
        IsStream(options.output))
      throw usage(
          fmt::format("-o {}: a {} {} is not written from front to back, as a pipe or device "
                      "takes it",
                      Escape(options.output), format.title, is_file ? "file" : "folder"))
          .Hint(is_file ? "give -o a file name" : "give -o a folder's name");
    if (options.resume && IsStream(options.output))
      throw usage(
          fmt::format("--resume: nothing of {} can be gone on with", Escape(options.output)))
          .Hint("give -o a file name");
    if (!HasParts(format, target)) continue;
    if (options.output == kStandardOutput)
      throw usage(fmt::format("--{} needs files, not standard output (-o -)", format.parts_knob));
    if (options.evaluation) throw EvaluatesWhole();
  }
  if (!options.evaluation) return;
  std::error_code ignored;
  const fs::file_status status = fs::status(options.output, ignored);
  const bool is_stream =
      options.output == kStandardOutput ||
      (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status));
  if (is_stream) throw EvaluatesWhole();
  if (options.nan != NanPolicy::kError)
    throw usage("--eval-text cannot measure against a checkpoint that has NaN (--nan zero)");
}

// What a run reads besides the model: files, and folders of files.
std::vector<fs::path> InputsBeside(const ConvertOptions& options) {
  std::vector<fs::path> inputs(options.adapters.begin(), options.adapters.end());
  const auto add = [&](const std::string& path) {
    if (!path.empty()) inputs.emplace_back(path);
  };
  add(options.tokenizer);
  if (options.calibration) {
    for (const std::string& path : options.calibration->texts) add(path);
    for (const std::string& path : options.calibration->ids) add(path);
    add(options.calibration->imatrix);
  }
  if (options.mix) add(options.mix->sensitivities);
  if (options.evaluation) {
    add(options.evaluation->text);
    add(options.evaluation->ids);
  }
  return inputs;
}

// An output must not be one of the files it is made from, not even with --force.
void RefuseInputAsOutput(const fs::path& output, const ConvertOptions& options,
                         const Source& source) {
  std::error_code ignored;
  if (!fs::exists(output, ignored)) return;
  const auto refuse = [&](const fs::path& input) {
    throw Error(ErrorCode::kUsage, fmt::format("the output is the same {} as the input {}",
                                               fs::is_directory(input, ignored) ? "folder" : "file",
                                               Escape(input.string())))
        .In(output.string())
        .Hint("choose another name for the output");
  };
  for (const fs::path& input : InputsBeside(options))
    if (fs::equivalent(output, input, ignored)) refuse(input);
  std::vector<fs::path> folders(options.adapters.begin(), options.adapters.end());
  folders.push_back(source.folder ? source.folder->path() : fs::path(source.path));
  for (const fs::path& input : folders) {
    if (fs::equivalent(output, input, ignored)) refuse(input);
    if (!fs::is_directory(input, ignored)) continue;
    for (const std::string& name : NamesInFolder(input))
      if (fs::equivalent(output, input / name, ignored)) refuse(input / name);
  }
}

// Before any work: what stands at the output's name may be replaced.
void CheckOutput(const fs::path& output, const PlanOptions& target, const ConvertOptions& options,
                 const Source& source) {
  if (output == kStandardOutput) return;
  RefuseInputAsOutput(output, options, source);
  if (HasParts(FindFormat(target.format), target)) return;  // the parts' names are not known yet
  if (options.targets.size() > 1 && !options.force && OutputStands(output, target, {})) {
    throw Error(ErrorCode::kOutput, "exists")
        .In(output.string())
        .Hint("--force replaces it, --skip-existing writes the others");
  }
  CheckOutputName(target, output, source.files(), OutputOptionsOf(options));
}

// Where the model is, and which outputs are to be made.
struct Job {
  Source source;
  std::vector<PlanOptions> targets;
  std::vector<fs::path> paths;  // of the targets
  std::vector<std::string> skipped;
  std::vector<KeptRun> kept = {};  // what interrupted runs left in the outputs' folder
};

Job Locate(const ConvertOptions& options, const WarningFn& warn) {
  CheckTargets(options);
  Job job{LocateSource(options.model, warn, options.tokenizer), options.targets, {}, {}};
  job.paths = OutputPaths(options, job.source);
  return job;
}

// Returns what may be gone on with.
std::vector<KeptRun> RecoverWhatWasLeft(const fs::path& folder, const WarningFn& warn) {
  Recovered recovered = RecoverFolder(folder);
  const auto shown = [&](const std::string& name) { return Escape((folder / name).string()); };
  for (const std::string& name : recovered.finished)
    warn({ErrorCode::kBadData,
          shown(name) + ": a run that was killed had written it; it has its name now"});
  for (const std::string& text : recovered.unfinished)
    warn({ErrorCode::kBadData, text + " (left by a run that was killed)"});
  for (const std::string& name : recovered.left)
    warn({ErrorCode::kBadData,
          shown(name) + ": what phiq replaced once, or left; remove it if nobody needs it"});
  return std::move(recovered.kept);
}

// The folder that an output stands in, be it "out/".
fs::path FolderOf(const fs::path& output) {
  return ParentFolder(output.has_filename() ? output : output.parent_path());
}

// Of what interrupted runs left of these outputs: what this one goes on with; the rest is removed.
const KeptRun* ChooseKept(const ConvertOptions& options, std::span<const KeptRun> kept,
                          std::span<const Output> outputs, std::string_view fingerprint,
                          unsigned threads, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const auto is_of = [](const KeptRun& run, const Output& output) {
    return output.layout.is_folder ? IsOf(run, output.path)
                                   : std::ranges::any_of(output.files, [&](const fs::path& file) {
                                       return IsOf(run, file);
                                     });
  };
  const KeptRun* chosen = nullptr;
  for (const KeptRun& run : kept) {
    const auto output =
        std::ranges::find_if(outputs, [&](const Output& one) { return is_of(run, one); });
    if (output == outputs.end()) continue;
    std::string_view why =
        options.resume ? "what an interrupted run had done is of another source, of other options "
                         "or of another phiq; it is removed"
                       : "what an interrupted run had done is removed: --resume would have gone on "
                         "with it, if all is as it was";
    const bool is_same = run.content.fingerprint == fingerprint;
    if (options.resume && chosen == nullptr && is_same) {
      if (IsAsNoted(FolderOf(output->path), run, outputs, threads, hooks)) {
        chosen = &run;
        continue;
      }
      why = "what an interrupted run had done is not what it noted of it; it is removed";
    }
    RemoveKept(FolderOf(output->path), run);
    if (options.resume && is_same && run.content.stages.empty()) continue;  // nothing is lost
    warn({ErrorCode::kBadData, fmt::format("{}: {}", Escape(output->path.string()), why)});
  }
  return chosen;
}

// Before any work: what dead runs left, and what stands at the names.
// `parts_of`  the files of a target with parts.
void CheckOutputs(const ConvertOptions& options, Job& job,
                  const std::function<std::vector<fs::path>(std::size_t)>& parts_of,
                  const WarningFn& warn) {
  const fs::path& first = job.paths.front();
  if (!IsStream(first)) job.kept = RecoverWhatWasLeft(FolderOf(first), warn);
  for (std::size_t i = 0; options.skip_existing && i < job.paths.size();) {
    const auto parts = [&] { return parts_of(i); };
    if (IsStream(job.paths[i]) || !OutputStands(job.paths[i], job.targets[i], parts)) {
      ++i;
      continue;
    }
    job.skipped.push_back(job.paths[i].string());
    job.targets.erase(job.targets.begin() + static_cast<std::ptrdiff_t>(i));
    job.paths.erase(job.paths.begin() + static_cast<std::ptrdiff_t>(i));
  }
  // A common folder that is still to be made (or cannot be) holds nothing to look at.
  std::error_code ignored;
  if (options.targets.size() > 1 && !options.output.empty() &&
      !fs::is_directory(options.output, ignored))
    return;
  for (std::size_t i = 0; i < job.paths.size(); ++i)
    CheckOutput(job.paths[i], job.targets[i], options, job.source);
}

// Of what is written besides: importance matrix, token ids, page.
void CheckOutputsBeside(const ConvertOptions& options, const Job& job, const WarningFn& warn) {
  const auto whole = [](const fs::path& name) {
    std::error_code ignored;
    return fs::weakly_canonical(fs::absolute(name, ignored), ignored);
  };
  std::vector<fs::path> names;
  for (const fs::path& output : job.paths) names.push_back(whole(output));
  std::set<fs::path> folders;  // that were looked at
  if (!IsStream(job.paths.front())) folders.insert(whole(FolderOf(job.paths.front())));
  const auto check = [&](const std::string& path, bool force) {
    if (path.empty()) return;
    if (!IsStream(path) && folders.insert(whole(FolderOf(path))).second)
      RecoverWhatWasLeft(FolderOf(path), warn);
    RefuseInputAsOutput(path, options, job.source);
    if (std::ranges::find(names, whole(path)) != names.end())
      throw Error(ErrorCode::kUsage, "two outputs have this name").In(path);
    names.push_back(whole(path));
    OutputOptions how = OutputOptionsOf(options);
    how.force = how.force || force;
    CheckOutputPath(path, how);
  };
  if (options.calibration) {
    check(options.calibration->imatrix_out, /*force=*/false);
    check(options.calibration->ids_out, /*force=*/false);
  }
  if (options.page) check(options.page->path, /*force=*/true);
}

// With --skip-existing, what is written besides is left where it stands, too.
ConvertOptions LeaveWhatStandsBeside(ConvertOptions options, std::vector<std::string>& left) {
  if (!options.skip_existing || !options.calibration) return options;
  for (std::string* name : {&options.calibration->imatrix_out, &options.calibration->ids_out}) {
    std::error_code ignored;
    if (name->empty() || IsStream(*name) || !fs::exists(fs::symlink_status(*name, ignored)))
      continue;
    left.push_back(std::exchange(*name, {}));
  }
  return options;
}

// When all outputs stand, nothing is computed that could be written beside them.
void RefuseOnlyBeside(const ConvertOptions& options) {
  if (!options.calibration) return;
  for (const std::string& name : {options.calibration->imatrix_out, options.calibration->ids_out}) {
    if (!name.empty())
      throw Error(ErrorCode::kOutput, "is written beside an output only, and all of them exist")
          .In(name)
          .Hint("--force replaces them");
  }
}

// What an output records of how it treated odd weights, so that `phiq verify` can do the same.
Facts PoliciesOf(const ConvertOptions& options) {
  Facts policies;
  if (options.nan == NanPolicy::kZero) policies.emplace_back("phiq.nan_policy", "zero");
  if (options.overflow == OverflowPolicy::kClamp)
    policies.emplace_back("phiq.overflow_policy", "clamp");
  return policies;
}

// What the output says of a source that is no checkpoint.
void AddOrigin(const SourceModel& source, Plan& plan) {
  if (!source.origin.empty()) plan.facts.emplace_back(kSourceFact, source.origin);
  if (source.lossy_types.empty()) return;
  plan.decisions.insert(plan.decisions.begin(),
                        {"source", source.lossy_types,
                         "quality was lost before, and what is lost here comes on top of it"});
}

// Everything that is final before the first byte is written.
struct Prepared {
  SourceModel source;
  std::vector<Output> targets;
  MemoryPlan memory;
  std::uint64_t scored_bytes = 0;  // of weights, read to plan
  std::optional<Calibration> calibration;
  std::vector<std::optional<MixReport>> mixes;  // of the targets
};

// The weights that all targets want.
Expression ExpressionOf(const ModelConfig& config, std::span<const PlanOptions> targets) {
  std::optional<Expression> wanted;
  for (const PlanOptions& target : targets) {
    const Format& format = FindFormat(target.format);
    const Expression own = format.expression == nullptr
                               ? Expression()
                               : Needed(config, format.expression(config, target));
    if (wanted && *wanted != own) {
      throw Error(
          ErrorCode::kUsage,
          fmt::format("{}: {} wants other weights than {}, as its runtime computes another "
                      "function",
                      config.architecture, format.title, FindFormat(targets.front().format).title))
          .Hint("one format at a time");
    }
    wanted = own;
  }
  return wanted.value_or(Expression());
}

// How far a run is prepared.
enum class Depth : std::uint8_t {
  // A plan that depends on weights is made as if they were all alike: enough to see what is wrong
  // with the options.
  kOptions,
  kPlan,  // all but a text that the model has to write
  kRun,
};

Prepared PrepareModel(const ConvertOptions& options, Job job, const Hooks& hooks, Depth depth) {
  const bool reads_weights = depth != Depth::kOptions;
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  SourceModel source = OpenSourceModel(
      std::move(job.source), {options.ignore_extra, options.adapters, options.pad_vocab}, warn,
      [&](const ModelConfig& config) { return ExpressionOf(config, job.targets); });
  std::optional<Calibration> calibration;
  if (options.calibration && reads_weights)
    calibration =
        PrepareCalibration(options, source, job.targets, depth == Depth::kRun, threads, hooks);
  const auto make_plan = [&](const PlanOptions& target, const Answers& answers,
                             const WarningFn& told) {
    std::unique_ptr<Plan> plan = PlanTarget(source.model, target, told, answers);
    AddOrigin(source, *plan);
    for (auto& policy : PoliciesOf(options)) plan->facts.push_back(policy);
    if (calibration) Apply(*calibration, source, *plan, told);
    return plan;
  };
  std::vector<std::optional<MixReport>> mixes(job.targets.size());
  for (std::size_t i = 0; options.mix && reads_weights && i < job.targets.size(); ++i) {
    const auto output_bytes = [&](const PlanOptions& target) {
      const WarningFn ignore = WarnOrIgnore({});
      const Answers answers(QuestionsOf(source.model, target).size());
      return LayOut(source, make_plan(target, answers, ignore),
                    HasParts(FindFormat(target.format), target), job.paths[i], ignore)
          .size_bytes();
    };
    mixes[i] = ChooseMix(options, source, calibration ? &*calibration : nullptr, threads,
                         output_bytes, job.targets[i], hooks);
  }
  std::vector<std::unique_ptr<Plan>> plans;
  std::uint64_t scored_bytes = 0;
  for (const PlanOptions& target : job.targets) {
    const std::vector<Question> questions = QuestionsOf(source.model, target);
    Measured measured{.answers = Answers(questions.size())};
    if (reads_weights) measured = Answer(source, questions, options, threads, hooks);
    scored_bytes += measured.bytes_read;
    plans.push_back(make_plan(target, measured.answers, warn));
    if (reads_weights && options.overflow == OverflowPolicy::kF32)
      scored_bytes += WidenWhatOverflowsHalf(source, *plans.back(), options, threads, hooks);
  }
  // From here on formats and byte counts are final.
  std::vector<Output> targets;
  for (std::size_t i = 0; i < plans.size(); ++i)
    targets.push_back(LayOut(source, std::move(plans[i]),
                             HasParts(FindFormat(job.targets[i].format), job.targets[i]),
                             job.paths[i], warn));
  // From here on every offset is final.
  std::uint64_t head_bytes = 0;
  std::vector<StreamTarget> streams;
  for (const Output& target : targets) {
    head_bytes += target.head_bytes();
    streams.push_back({target.plan.get(), &target.layout, {}});
  }
  const MemoryPlan memory = calibration
                                ? PlanMemory(*calibration, streams, source, head_bytes, threads,
                                             options.memory_limit_bytes, options.overflow)
                                : PlanMemory(streams, source, head_bytes, /*held_bytes=*/0, threads,
                                             options.memory_limit_bytes, options.overflow);
  if (calibration)
    calibration->planned.seconds = EstimateSeconds(*calibration, source, streams, memory.threads);
  return {std::move(source), std::move(targets),     memory,
          scored_bytes,      std::move(calibration), std::move(mixes)};
}

// Planners know a model, and not where its config.json stands: that is said here. A model that is a
// file has it inside.
Prepared Prepare(const ConvertOptions& options, Job job, const Hooks& hooks, Depth depth) {
  const std::string name = "config.json";
  const std::string path =
      job.source.folder ? job.source.folder->PathOf(name).string() : job.source.path;
  Hooks named = hooks;
  if (hooks.warn) {
    named.warn = [&](const Warning& warning) {
      const bool is_plans = warning.text.starts_with(name + ": ");
      hooks.warn({warning.code,
                  is_plans ? Escape(path) + warning.text.substr(name.size()) : warning.text});
    };
  }
  try {
    return PrepareModel(options, std::move(job), named, depth);
  } catch (const Error& error) {
    if (error.path() != name) throw;
    throw error.Renamed(name, path);
  }
}

ConversionPlan Describe(const Prepared& prepared) {
  ConversionPlan conversion;
  for (const Output& target : prepared.targets) {
    OutputPlan output;
    output.plan = target.plan;
    output.is_folder = target.layout.is_folder;
    output.model_name = prepared.source.model.name;
    output.architecture = prepared.source.model.config.architecture;
    for (std::size_t i = 0; i < target.files.size(); ++i)
      output.files.push_back({target.files[i].string(), target.layout.files[i].size_bytes});
    output.output_bytes = target.size_bytes();
    output.mix = prepared.mixes[conversion.outputs.size()];
    conversion.outputs.push_back(std::move(output));
  }
  if (prepared.calibration) conversion.calibration = prepared.calibration->planned;
  conversion.peak_memory_bytes = prepared.memory.peak_bytes;
  conversion.threads = prepared.memory.threads;
  return conversion;
}

// Several targets stand in one folder. What of it is new goes away again unless Keep is called.
class CommonFolder {
 public:
  explicit CommonFolder(const ConvertOptions& options) {
    if (options.targets.size() == 1 || options.output.empty()) return;
    fs::path path = options.output;
    if (!path.has_filename()) path = path.parent_path();  // "out/"
    std::error_code failed;
    for (fs::path p = path; !p.empty() && !fs::exists(p, failed); p = p.parent_path()) {
      made_.push_back(p);
      if (p == p.parent_path()) break;  // a root that is not there
    }
    failed.clear();
    if (options.mkdir) {
      fs::create_directories(path, failed);
    } else {
      fs::create_directory(path, failed);
    }
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) return;
    RemoveMade();
    const bool is_file = fs::exists(path, ignored);
    throw Error(ErrorCode::kOutput,
                is_file ? "is not a folder" : "cannot be made: " + failed.message())
        .In(options.output)
        .Hint(is_file || options.mkdir ? "with several formats -o names a folder"
                                       : "--mkdir makes the folders above it, too");
  }
  ~CommonFolder() { RemoveMade(); }
  CommonFolder(const CommonFolder&) = delete;
  CommonFolder& operator=(const CommonFolder&) = delete;

  void Keep() { made_.clear(); }

 private:
  void RemoveMade() {
    std::error_code ignored;  // a folder that others have put files in stays
    for (const fs::path& path : made_) fs::remove(path, ignored);
    made_.clear();
  }

  std::vector<fs::path> made_;  // innermost first
};

// For all outputs together: each alone may fit.
void CheckSpaceOfAll(const ConvertOptions& options, const Prepared& prepared) {
  const std::span<const Output> outputs = prepared.targets;
  if (!options.space_check || IsStream(outputs.front().path)) return;
  std::uint64_t n_bytes = prepared.calibration ? prepared.calibration->planned.scratch_bytes : 0;
  for (const Output& output : outputs) n_bytes += output.size_bytes();
  const fs::path folder = options.output.empty() ? "." : options.output;
  CheckSpace(options.targets.size() == 1 ? outputs.front().path : folder / "", n_bytes);
}

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
    result.Add(std::move(note.result));
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
