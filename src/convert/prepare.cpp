// Reads from top to bottom: open, calibrate, choose types, plan, lay out, plan memory.
#include "convert/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "convert/calibration_time.h"
#include "convert/device_memory.h"
#include "convert/mix.h"
#include "convert/open_model.h"
#include "convert/score.h"
#include "formats/format.h"
#include "io/parallel.h"
#include "phiq/text.h"
#include "stored/fill_width.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

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

Prepared PrepareModel(const ConvertOptions& options, Job job, const Hooks& hooks, Depth depth) {
  const bool reads_weights = depth != Depth::kOptions;
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  SourceModel source = OpenSourceModel(
      std::move(job.source), {options.ignore_extra, options.adapters, options.pad_vocab}, warn,
      [&](const ModelConfig& config) { return ExpressionOf(config, job.targets); });
  for (std::size_t i = 0; options.n_ctx && i < job.targets.size(); ++i) {
    // Whether there is such a context, before any work.
    const Answers answers(QuestionsOf(source.model, job.targets[i]).size());
    DeviceMemoryOf(source.model.config,
                   *PlanTarget(source.model, job.targets[i], WarnOrIgnore({}), answers), 0,
                   options.n_ctx);
  }
  std::optional<Calibration> calibration;
  if (options.calibration && reads_weights)
    calibration =
        PrepareCalibration(options, source, job.targets, depth == Depth::kRun, threads, hooks);
  std::vector<std::optional<MixReport>> mixes(job.targets.size());
  const auto make_plan = [&](const PlanOptions& target, const Answers& answers,
                             const WarningFn& told) {
    std::unique_ptr<Plan> plan = PlanTarget(source.model, target, told, answers);
    AddOrigin(source, *plan);
    for (auto& policy : PoliciesOf(options)) plan->facts.push_back(policy);
    // A text that types were chosen by is used, whatever codes are chosen by.
    const bool is_text_used = std::ranges::any_of(
        mixes, [](const std::optional<MixReport>& mix) { return mix && mix->n_tokens > 0; });
    if (calibration) Apply(*calibration, source, *plan, is_text_used ? WarnOrIgnore({}) : told);
    return plan;
  };
  for (std::size_t i = 0; reads_weights && i < job.targets.size(); ++i) {
    const auto output_bytes = [&](const PlanOptions& target) {
      const WarningFn ignore = WarnOrIgnore({});
      const Answers answers(QuestionsOf(source.model, target).size());
      return LayOut(source, make_plan(target, answers, ignore),
                    HasParts(FindFormat(target.format), target), job.paths[i], ignore)
          .size_bytes();
    };
    mixes[i] = ChooseMix(options, source, calibration ? &*calibration : nullptr, threads,
                         output_bytes, depth == Depth::kPlan, job.targets[i], hooks);
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
  MemoryPlan memory = calibration
                          ? PlanMemory(*calibration, streams, source, head_bytes, threads,
                                       options.memory_limit_bytes, options.overflow)
                          : PlanMemory(streams, source, head_bytes, /*held_bytes=*/0, threads,
                                       options.memory_limit_bytes, options.overflow);
  for (const std::optional<MixReport>& mix : mixes)
    if (mix) memory.peak_bytes = std::max(memory.peak_bytes, mix->memory_bytes);
  if (calibration)
    calibration->planned.seconds = EstimateSeconds(*calibration, source, streams, memory.threads);
  return {std::move(source),      std::move(targets), memory,       scored_bytes,
          std::move(calibration), std::move(mixes),   options.n_ctx};
}

}  // namespace

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
    output.device = DeviceMemoryOf(prepared.source.model.config, *target.plan, output.output_bytes,
                                   prepared.n_ctx);
    conversion.outputs.push_back(std::move(output));
  }
  if (prepared.calibration) conversion.calibration = prepared.calibration->planned;
  conversion.peak_memory_bytes = prepared.memory.peak_bytes;
  conversion.threads = prepared.memory.threads;
  return conversion;
}

void CheckSpaceOfAll(const ConvertOptions& options, const Prepared& prepared) {
  const std::span<const Output> outputs = prepared.targets;
  if (!options.space_check || IsStream(outputs.front().path)) return;
  std::uint64_t n_bytes = prepared.calibration ? prepared.calibration->planned.scratch_bytes : 0;
  for (const Output& output : outputs) n_bytes += output.size_bytes();
  const fs::path folder = options.output.empty() ? "." : options.output;
  CheckSpace(options.targets.size() == 1 ? outputs.front().path : folder / "", n_bytes);
}

}  // namespace phiq
