// What can be wrong with names and targets is told here, before a run of hours; so is what runs
// that died have left.
#include "convert/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/open_input.h"
#include "convert/stages.h"
#include "formats/format.h"
#include "io/system.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStandardOutput = "-";

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
          fmt::format("-o {}: {} makes a {}, which is not written from front to back, as a pipe "
                      "or device takes it",
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

}  // namespace

OutputOptions OutputOptionsOf(const ConvertOptions& options) {
  return {options.force, options.mkdir, options.space_check, options.fsync};
}

Job Locate(const ConvertOptions& options, const WarningFn& warn) {
  CheckTargets(options);
  Job job{LocateSource(options.model, warn, options.tokenizer), options.targets, {}, {}};
  job.paths = OutputPaths(options, job.source);
  return job;
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
    if (name->empty() || IsStream(*name) || !Stands(*name, ErrorCode::kOutput)) continue;
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

CommonFolder::CommonFolder(const ConvertOptions& options) {
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

void CommonFolder::RemoveMade() {
  std::error_code ignored;  // a folder that others have put files in stays
  for (const fs::path& path : made_) fs::remove(path, ignored);
  made_.clear();
}

}  // namespace phiq
