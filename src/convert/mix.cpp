// What a tensor loses as a type is reckoned from two measurements: the divergence that its kind has
// in its part of the depth when all of that is rounded to one type, shared out over the weights;
// and how many times the squared error of that type another one has, on some rows of the tensor.
#include "convert/mix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/portable_math.h"
#include "base/sha256.h"
#include "convert/device_memory.h"
#include "convert/memory.h"
#include "convert/rounded_model.h"
#include "convert/score.h"
#include "convert/sensitivity.h"
#include "formats/format.h"
#include "io/outputs.h"
#include "io/system.h"
#include "kernels/grid.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "plan/knapsack.h"
#include "plan/lines.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

// 512 tokens order the kinds of a model's tensors as well as more do; four times as many, so that a
// text's oddities count less.
constexpr std::uint64_t kMeasuredTokens = 2048;
constexpr std::uint64_t kErrorRows = 32;  // of a tensor, to compare types on
constexpr std::size_t kFrontierPoints = 9;
constexpr int kMostRounds = 6;

// Everything as one type, as far as a rule may say so.
struct Candidate {
  std::string type;
  std::unique_ptr<Plan> plan;
};

// A tensor of the checkpoint with its options and their types; one that has no choice has one.
struct Unit {
  std::string name;
  std::vector<MixOption> options;
  std::vector<std::size_t> candidates;  // of the options
  bool is_chosen = true;
};

std::string Wanted(const MixOptions& mix) {
  if (mix.device_memory_bytes)
    return fmt::format("--device-memory {}", FormatBytes(*mix.device_memory_bytes));
  if (mix.size_bytes) return fmt::format("--target-size {}", FormatBytes(*mix.size_bytes));
  if (mix.bits_per_weight) return fmt::format("--target-bpw {:g}", *mix.bits_per_weight);
  return fmt::format("--target-kl {:g}", *mix.kl);
}

PlanOptions WithTypes(const PlanOptions& target, std::vector<TensorRule> rules) {
  PlanOptions with = target;
  rules.insert(rules.end(), target.tensor_rules.begin(), target.tensor_rules.end());
  with.tensor_rules = std::move(rules);
  return with;
}

// Reference codes: what needs statistics has them only when it is written.
PlanOptions AsReference(PlanOptions target) {
  target.method = "reference";
  target.is_method_chosen = false;
  target.strict_types = false;
  return target;
}

std::unique_ptr<Plan> MakePlan(const SourceModel& source, const PlanOptions& target) {
  const Answers answers(QuestionsOf(source.model, target).size());
  return PlanTarget(
      source.model, target, [](const Warning&) {}, answers);
}

// Of tensors; tables of the configuration do not count.
std::uint64_t TensorBytes(const Plan& plan) {
  std::uint64_t sum = 0;
  for (const PlanLine& line : plan.lines)
    if (!line.table) sum += line.size_bytes;
  return sum;
}

bool IsMatrix(const PlanLine& line) { return !line.table && !StaysFloat(line.role); }

std::string Quoted(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    if (std::string_view(R"(\.^$|()[]{}*+?)").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// A rule's pattern for one tensor. A tied embedding is the head too, which some formats could store
// a second time.
std::string PatternOf(const Model& model, const std::string& name) {
  if (!IsTied(model) || name != CheckpointName(model.config, {TensorRole::kTokenEmbedding}))
    return fmt::format("^{}$", Quoted(name));
  return fmt::format("^({}|{})$", Quoted(name),
                     Quoted(CheckpointName(model.config, {TensorRole::kOutputHead})));
}

// The sum of squared errors of some rows of a line in the line's own encoding.
double SquaredError(const SourceModel& source, const PlanLine& line) {
  if (IsExact(line.encoding)) return 0;
  const std::size_t n = line.row_elements();
  const std::uint64_t n_rows = line.n_rows(),
                      step = std::max<std::uint64_t>(1, n_rows / kErrorRows);
  RowCodec codec;
  std::vector<float> row(n), rounded(n);
  double sum = 0;
  for (std::uint64_t r = step / 2; r < n_rows; r += step) {
    source.weights.ReadRows({line.role, line.layer}, line.first_row + r, 1, codec, row);
    rounded = row;
    RoundRows(*line.method, line.encoding, n, codec, rounded);
    for (std::size_t i = 0; i < n; ++i) {
      const double error = double{rounded[i]} - row[i];
      sum += error * error;
    }
  }
  return sum;
}

// The divergence of each line of the plan that was measured, its share of its group's.
double ShareOf(const Sensitivities& measured, const PlanLine& line) {
  for (const Sensitivity& group : measured.groups)
    if (group.Has(line))
      return group.kl * static_cast<double>(line.n_elements()) /
             static_cast<double>(group.n_weights);
  return 0;
}

// Which candidates a tensor may have; those of others are not asked for.
using CandidatesOf = std::function<std::vector<std::size_t>(const std::string& name)>;

// `candidates_of`  of a tensor that has one, the type is not chosen; none: it is no unit.
std::vector<Unit> MakeUnits(const SourceModel& source, std::span<const Candidate> candidates,
                            std::size_t measured_candidate, const Sensitivities& measured,
                            const CandidatesOf& candidates_of) {
  std::vector<Unit> units;
  const Plan& base = *candidates[measured_candidate].plan;
  std::vector<double> base_errors(base.lines.size());
  double losses = 0, errors = 0;
  for (std::size_t i = 0; i < base.lines.size(); ++i) {
    if (!IsMatrix(base.lines[i])) continue;
    base_errors[i] = SquaredError(source, base.lines[i]);
    errors += base_errors[i];
    losses += ShareOf(measured, base.lines[i]);
  }
  // Of weights that the measured type holds exactly (they were of such a type once) nothing was
  // learned: an error costs what it costs on average.
  const double mean = errors > 0 ? losses / errors : 1;
  for (std::size_t i = 0; i < base.lines.size(); ++i) {
    const PlanLine& line = base.lines[i];
    if (!IsMatrix(line)) continue;
    const std::vector<std::size_t> allowed = candidates_of(line.name);
    if (allowed.empty()) continue;
    auto unit = std::ranges::find(units, line.name, &Unit::name);
    const bool is_new = unit == units.end();
    if (is_new) unit = units.insert(unit, {line.name, {}, {}, allowed.size() > 1});
    const double base_error = base_errors[i],
                 per_error = base_error > 0 ? ShareOf(measured, line) / base_error : mean;
    std::size_t option = 0;
    for (const std::size_t c : allowed) {
      const std::vector<PlanLine>& lines = candidates[c].plan->lines;
      // Types may cut a weight into other lines, but not a weight of this tensor.
      const auto other = std::ranges::find_if(lines, [&](const PlanLine& one) {
        return one.name == line.name && one.role == line.role && one.part == line.part;
      });
      if (other == lines.end()) continue;
      if (is_new) {
        unit->options.push_back({});
        unit->candidates.push_back(c);
      }
      const double error = c == measured_candidate ? base_error : SquaredError(source, *other);
      MixOption& here = unit->options[option++];
      here.size_bytes += other->size_bytes;
      here.loss += per_error * error;
    }
  }
  return units;
}

std::vector<std::vector<MixOption>> OptionsOf(std::span<const Unit> units) {
  std::vector<std::vector<MixOption>> options;
  for (const Unit& unit : units) options.push_back(unit.options);
  return options;
}

// "model.layers.3.mlp.down_proj.weight" -> what stands before and behind the number.
struct LayerName {
  std::string before, behind;
  std::string layer;  // "": the name has none
};
LayerName SplitName(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  const std::size_t at = name.find(kLayers);
  if (at == std::string::npos) return {name, "", ""};
  const std::size_t first = at + kLayers.size();
  const std::size_t end = name.find_first_not_of("0123456789", first);
  if (end == std::string::npos || end == first) return {name, "", ""};
  return {name.substr(0, first), name.substr(end), name.substr(first, end - first)};
}

// One rule for all layers that have a tensor of the same name in the same type.
std::vector<TensorRule> RulesOf(const Model& model, std::span<const Unit> units,
                                const MixChoice& choice, std::span<const Candidate> candidates,
                                const std::string& why) {
  std::vector<TensorRule> rules;
  std::vector<std::pair<std::array<std::string, 3>, std::string>> joined;  // to layers
  for (std::size_t u = 0; u < units.size(); ++u) {
    if (!units[u].is_chosen) continue;
    const std::string& type = candidates[units[u].candidates[choice.options[u]]].type;
    const LayerName name = SplitName(units[u].name);
    std::array<std::string, 3> key = {name.before, name.behind, type};
    const auto found = std::ranges::find(joined, key, [](const auto& one) { return one.first; });
    if (found == joined.end()) {
      joined.emplace_back(std::move(key), name.layer);
    } else {
      found->second += "|" + name.layer;
    }
  }
  for (const auto& [key, layers] : joined) {
    if (layers.empty()) {
      rules.push_back({PatternOf(model, key[0]), key[2], why});
      continue;
    }
    const bool several = layers.find('|') != std::string::npos;
    rules.push_back({fmt::format("^{}{}{}{}{}$", Quoted(key[0]), several ? "(" : "", layers,
                                 several ? ")" : "", Quoted(key[1])),
                     key[2], why});
  }
  return rules;
}

// What a file of sensitivities must be of.
std::string ModelHash(const SourceModel& source) {
  Sha256 hash;
  const auto add = [&](std::string_view text) { hash.Add(std::as_bytes(std::span(text))); };
  add(source.model.config.architecture);
  RowCodec codec;
  std::vector<float> row;
  for (const WeightInfo& weight : WeightsOf(source.model.config)) {
    add(fmt::format("\n{} {} ", weight.name, weight.shape.row_elements));
    row.resize(weight.shape.row_elements);
    source.weights.ReadRows(weight.id, 0, 1, codec, row);
    hash.Add(std::as_bytes(std::span(row)));
  }
  return hash.Hex();
}

// Windows that are spread over the text.
std::vector<std::uint32_t> ChooseWindows(const calibrate::CalibrationText& text) {
  const std::uint64_t n_windows =
      std::clamp<std::uint64_t>(kMeasuredTokens / text.n_ctx, 1, text.n_windows());
  std::vector<std::uint32_t> ids;
  for (std::uint64_t w = 0; w < n_windows; ++w) {
    const auto first = text.windows.begin() +
                       static_cast<std::ptrdiff_t>(w * text.n_windows() / n_windows * text.n_ctx);
    ids.insert(ids.end(), first, first + text.n_ctx);
  }
  return ids;
}

std::string IdsHash(std::span<const std::uint32_t> ids) {
  Sha256 hash;
  hash.Add(std::as_bytes(ids));
  return hash.Hex();
}

class Chooser {
 public:
  Chooser(const ConvertOptions& options, const SourceModel& source, const Calibration* calibration,
          unsigned threads, const OutputBytes& output_bytes, PlanOptions& target,
          const Hooks& hooks)
      : options_(options),
        mix_(options.mix.value_or(MixOptions())),
        source_(source),
        text_(calibration != nullptr && !calibration->text.sha256.empty() ? &calibration->text
                                                                          : nullptr),
        is_text_to_come_(calibration != nullptr && calibration->text.n_windows() > 0),
        threads_(threads),
        output_bytes_(output_bytes),
        target_(target),
        hooks_(hooks) {}

  std::optional<MixReport> Choose(bool is_plan) {
    const Format& format = FindFormat(target_.format);
    const bool has_file =
        !mix_.sensitivities.empty() && Stands(mix_.sensitivities, ErrorCode::kInput);
    const bool has_losses = text_ != nullptr || has_file;
    if (!mix_.has_goal()) {
      if (ChoosesAsked(has_losses)) return ChooseAsked(has_file);
      if (!options_.mix) return std::nullopt;
      if (!is_plan || !has_losses)
        throw Error(ErrorCode::kUsage, "--sensitivity: needs something to reach")
            .Hint("--target-size, --target-bpw, --target-kl or --device-memory");
    }
    if (format.mixed_types.empty())
      throw Error(ErrorCode::kUsage,
                  fmt::format("{}: {}'s tensors have one type", Wanted(), format.title));
    if (mix_.device_memory_bytes) FitToDevice();
    if (!has_losses && is_text_to_come_)
      throw Error(ErrorCode::kUsage,
                  fmt::format("{}: what types are worth is not known before the model has written "
                              "its text",
                              Wanted()))
          .Hint("plan with --sensitivity FILE that an earlier quantize wrote, or --calibrate FILE");
    if (!has_losses) return ChooseRecipe();
    MakeCandidates(format.mixed_types);
    KnowLosses(has_file);
    std::vector<std::size_t> all(candidates_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    MakeChoices(
        [&](const std::string& name) { return name == fixed_ ? std::vector<std::size_t>() : all; });
    if (!mix_.has_goal()) return ReportFrontier();
    const MixChoice choice = mix_.kl ? WithinLoss() : WithinSize();
    target_ = TargetOf(choice);
    return Report(choice);
  }

 private:
  // What a message calls it that types are chosen for.
  std::string Wanted() const { return mix_.has_goal() ? phiq::Wanted(mix_) : "--sensitivity"; }

  bool ChoosesAsked(bool has_losses) const {
    const Format& format = FindFormat(target_.format);
    return format.types_by_loss != nullptr && !QuestionsOf(source_.model, target_).empty() &&
           !format.types_by_loss(target_, has_losses || is_text_to_come_).empty();
  }

  // The two types of tensors that questions are asked about: as many bytes as the answers' choice
  // takes, at most, and the least loss. The others stay as they are planned.
  std::optional<MixReport> ChooseAsked(bool has_file) {
    if (text_ == nullptr && !has_file) {
      MixReport report;
      report.is_to_come = true;
      return report;
    }
    const std::vector<Question> questions = QuestionsOf(source_.model, target_);
    std::vector<std::string> asked;
    for (const Question& question : questions)
      asked.push_back(source_.model.tensors[question.tensor].name);
    const Answers answers = Answer(source_, questions, options_, threads_, hooks_).answers;
    MakeCandidates(FindFormat(target_.format).types_by_loss(target_, true));
    const std::size_t planned = candidates_.size();
    candidates_.push_back(
        {"", PlanTarget(
                 source_.model, AsReference(target_), [](const Warning&) {}, answers)});
    KnowLosses(has_file);
    MakeChoices([&](const std::string& name) -> std::vector<std::size_t> {
      if (std::ranges::find(asked, name) == asked.end()) return {planned};
      return {0, 1};
    });
    const MixChoice reference = PlannedChoice(*candidates_[planned].plan);
    std::optional<MixChoice> choice =
        WithinBytes(output_bytes_(TargetOf(reference)), reference.size_bytes,
                    [&](const MixChoice& one) { return output_bytes_(TargetOf(one)); });
    if (!choice || choice->loss > reference.loss) choice = reference;
    target_ = TargetOf(*choice);
    return Report(*choice);
  }

  // The options that a plan has.
  MixChoice PlannedChoice(const Plan& plan) const {
    MixChoice choice;
    for (const Unit& unit : units_) {
      std::uint64_t n_bytes = 0;
      for (const PlanLine& line : plan.lines)
        if (!line.table && line.name == unit.name) n_bytes += line.size_bytes;
      const auto option = std::ranges::find(unit.options, n_bytes, &MixOption::size_bytes);
      choice.options.push_back(static_cast<std::size_t>(option - unit.options.begin()));
      choice.size_bytes += option->size_bytes;
      choice.loss += option->loss;
    }
    return choice;
  }

  void KnowLosses(bool has_file) {
    if (has_file) {
      measured_ = ReadSensitivities(mix_.sensitivities);
      CheckMeasured();
    } else {
      MeasureKinds();
    }
  }

  void MakeChoices(const CandidatesOf& candidates_of) {
    units_ = MakeUnits(source_, candidates_, measured_candidate_, measured_, candidates_of);
    choices_ = OptionsOf(units_);
    const MixChoice smallest = *LeastLoss(choices_, SmallestBytes());
    other_bytes_ =
        TensorBytes(*MakePlan(source_, AsReference(TargetOf(smallest)))) - smallest.size_bytes;
  }

  // What the device has beside all that is not the files' becomes their size. What that is does
  // not depend on the types.
  void FitToDevice() {
    const DeviceMemory device = BesideFiles();
    const std::uint64_t beside = device.total_bytes();
    mix_.size_bytes = *mix_.device_memory_bytes - std::min(*mix_.device_memory_bytes, beside);
  }

  DeviceMemory BesideFiles() const {
    const std::optional<DeviceMemory> device = DeviceMemoryOf(
        source_.model.config, *MakePlan(source_, AsReference(target_)), 0, options_.n_ctx);
    if (!device)
      throw Error(ErrorCode::kUsage, fmt::format("--device-memory: no device runs {} as it is",
                                                 FindFormat(target_.format).title));
    return *device;
  }

  void MakeCandidates(std::span<const std::string_view> types) {
    for (const std::string_view type : types) {
      const auto add = [&] {
        std::vector<TensorRule> rules;
        for (const ModelTensor& tensor : source_.model.tensors)
          if (!StaysFloat(tensor.role) && tensor.name != fixed_)
            rules.push_back({PatternOf(source_.model, tensor.name), std::string(type)});
        candidates_.push_back(
            {std::string(type), MakePlan(source_, AsReference(WithTypes(target_, rules)))});
      };
      try {
        add();
      } catch (const Error&) {
        // A format whose embedding keeps its type: all others are chosen.
        if (!fixed_.empty()) throw;
        fixed_ = source_.model.tensors.front().name;
        add();
      }
    }
  }

  // The candidate whose size is nearest to what is wanted: where its losses are, others' are near.
  // Not floats: what they lose is below what can be measured, and no ratio of it says anything.
  std::size_t NearestCandidate() const {
    if (candidates_.back().type.empty()) return 0;  // asked about: the smaller of both
    const auto distance = [&](const Candidate& candidate) {
      const Plan& plan = *candidate.plan;
      double bits = 4.5;  // of a loss: about where people look for one
      if (mix_.bits_per_weight) bits = *mix_.bits_per_weight;
      if (mix_.size_bytes)
        bits = static_cast<double>(*mix_.size_bytes) * 8 / static_cast<double>(plan.n_weights());
      return std::abs(PortableLog(plan.bits_per_weight() / bits));
    };
    const auto has_scales = [](const Candidate& candidate) {
      return std::ranges::any_of(candidate.plan->lines, [](const PlanLine& line) {
        return IsMatrix(line) && HasGrid(line.encoding);
      });
    };
    std::optional<std::size_t> best;
    for (std::size_t c = 0; c < candidates_.size(); ++c)
      if (has_scales(candidates_[c]) &&
          (!best || distance(candidates_[c]) < distance(candidates_[*best])))
        best = c;
    return *best;  // every format that mixes has a type with scales
  }

  // What is beside the program and the tokenizer.
  Measuring measuring() const {
    const std::uint64_t fixed = FixedBytes(source_), limit = options_.memory_limit_bytes;
    return {threads_, limit > fixed ? limit - fixed : 0, hooks_};
  }

  void MeasureKinds() {
    measured_candidate_ = NearestCandidate();
    const Candidate& candidate = candidates_[measured_candidate_];
    measured_.format = target_.format;
    measured_.type = candidate.type;
    measured_.model = ModelHash(source_);
    measured_.groups = GroupsOf(*candidate.plan, source_.model.config.n_layers);
    const std::vector<std::uint32_t> ids = ChooseWindows(*text_);
    const Windows windows = {ids, text_->n_ctx};
    memory_bytes_ =
        FixedBytes(source_) +
        MeasuringBytes(source_.model.config, measured_.groups.size(), windows, measuring());
    measured_.text = IdsHash(ids);
    measured_.n_tokens = ids.size();
    seconds_ =
        MeasureSensitivities(source_, *candidate.plan, windows, measuring(), measured_.groups);
    if (mix_.sensitivities.empty()) return;
    const std::string json = FormatSensitivities(measured_);
    Outputs outputs({options_.force, options_.mkdir, options_.space_check, options_.fsync});
    outputs.AddFiles({{mix_.sensitivities, json.size()}}, 0)
        .front()
        ->WriteAt(0, std::as_bytes(std::span(json)));
    outputs.Commit();
  }

  void CheckMeasured() {
    const auto bad = [&](std::string what) {
      return Error(ErrorCode::kBadData, std::move(what))
          .In(mix_.sensitivities)
          .Hint("another --sensitivity FILE, which is then written");
    };
    if (measured_.format != target_.format)
      throw bad(fmt::format("has sensitivities of {}, not of {}", Escape(measured_.format),
                            target_.format));
    const auto found = std::ranges::find(candidates_, measured_.type, &Candidate::type);
    if (found == candidates_.end())
      throw bad(fmt::format("was measured with the type {}, which {} does not mix",
                            Escape(measured_.type), target_.format));
    measured_candidate_ = static_cast<std::size_t>(found - candidates_.begin());
    const std::vector<Sensitivity> groups = GroupsOf(*found->plan, source_.model.config.n_layers);
    const auto same = [](const Sensitivity& a, const Sensitivity& b) {
      return a.role == b.role && a.first_layer == b.first_layer && a.end_layer == b.end_layer &&
             a.n_weights == b.n_weights;
    };
    if (measured_.model != ModelHash(source_) ||
        !std::ranges::equal(groups, measured_.groups, same))
      throw bad("has sensitivities of another model");
  }

  // Codes of the whole mix on text that was held back.
  double Measure(const PlanOptions& target) const {
    const std::unique_ptr<Plan> plan = MakePlan(source_, AsReference(target));
    const std::vector<Rounding> all = {{plan.get(), IsMatrix}};
    return MeasureDivergences(source_, all, HeldBack(), measuring()).front();
  }

  Windows HeldBack() const {
    const std::uint64_t most =
        std::max<std::uint64_t>(1, kMeasuredTokens / text_->n_ctx) * text_->n_ctx;
    return {std::span(text_->held_back).first(std::min<std::size_t>(text_->held_back.size(), most)),
            text_->n_ctx};
  }

  // What a line of the plan says.
  std::string Reason() const {
    return mix_.has_goal() ? Wanted() : "ratio: by the losses that were measured";
  }

  PlanOptions TargetOf(const MixChoice& choice) const {
    return WithTypes(target_, RulesOf(source_.model, units_, choice, candidates_, Reason()));
  }

  static Error NeedsText() {
    return Error(ErrorCode::kUsage, "--target-kl: needs a text to be measured on")
        .Hint("--calibrate self or --calibrate FILE");
  }

  Error TooSmall(std::uint64_t least_bytes, double least_bits) const {
    const std::string_view title = FindFormat(target_.format).title;
    if (!mix_.device_memory_bytes)
      return {ErrorCode::kNo, fmt::format("{}: the least that {} of this model takes is {} bytes, "
                                          "{:.3f} bits per weight",
                                          Wanted(), title, FormatCount(least_bytes), least_bits)};
    const DeviceMemory device = BesideFiles();
    return Error(ErrorCode::kNo,
                 fmt::format("{}: the least that {} of this model needs at a context of {} tokens "
                             "is {}: {} of files, {} of cache, {} to work in",
                             Wanted(), title, FormatCount(device.n_ctx),
                             FormatBytes(device.total_bytes() + least_bytes),
                             FormatBytes(least_bytes), FormatBytes(device.cache_bytes),
                             FormatBytes(device.working_bytes)))
        .Hint("a smaller --ctx needs less");
  }

  using SizeOf = std::function<std::uint64_t(const MixChoice&)>;

  // The least loss of what is at most so large. What the files have besides is known of a choice
  // only when it is laid out: sizes of headers depend on it a little.
  //
  // `room`  for the units, to begin with
  std::optional<MixChoice> WithinBytes(std::uint64_t limit, std::uint64_t room,
                                       const SizeOf& size_of) const {
    for (int round = 0; round < kMostRounds; ++round) {
      const std::optional<MixChoice> next = LeastLoss(choices_, room);
      if (!next) break;
      const std::uint64_t size = size_of(*next);
      if (size <= limit) return next;
      room -= std::min(room, size - limit);
    }
    return std::nullopt;
  }

  MixChoice WithinSize() {
    const MixChoice smallest = *LeastLoss(choices_, SmallestBytes());
    const SizeOf size_of = [&](const MixChoice& choice) -> std::uint64_t {
      if (mix_.size_bytes) return output_bytes_(TargetOf(choice));
      return TensorBytes(*MakePlan(source_, AsReference(TargetOf(choice))));
    };
    const std::uint64_t limit =
        mix_.size_bytes ? *mix_.size_bytes
                        : static_cast<std::uint64_t>(
                              *mix_.bits_per_weight / 8 *
                              static_cast<double>(candidates_.front().plan->n_weights()));
    const std::uint64_t least = size_of(smallest);
    if (least > limit)
      throw TooSmall(least, MakePlan(source_, AsReference(TargetOf(smallest)))->bits_per_weight());
    return WithinBytes(limit, limit - (least - smallest.size_bytes), size_of).value_or(smallest);
  }

  // The sum of single divergences is a guess of what all have together: it is measured, and the
  // guess mended by that.
  MixChoice WithinLoss() {
    if (text_ == nullptr) throw NeedsText();
    double factor = 1;
    std::optional<MixChoice> best;
    for (int round = 0; round < kMostRounds; ++round) {
      const std::optional<MixChoice> choice = LeastBytes(choices_, *mix_.kl * factor);
      if (!choice) break;
      const double measured = Measure(TargetOf(*choice));
      if (measured <= *mix_.kl && (!best || choice->size_bytes < best->size_bytes)) {
        best = choice;
        measured_kl_ = measured;
      }
      if (measured <= *mix_.kl && measured >= 0.97 * *mix_.kl) break;
      if (measured <= 0) break;
      const double next = factor * std::clamp(0.99 * *mix_.kl / measured, 0.1, 10.0);
      if (next == factor) break;
      factor = next;
    }
    if (best) return *best;
    const std::optional<MixChoice> largest =
        LeastLoss(choices_, std::numeric_limits<std::uint64_t>::max() / 2);
    const double least = Measure(TargetOf(*largest));
    if (least <= *mix_.kl) {
      measured_kl_ = least;
      return *largest;
    }
    throw Error(
        ErrorCode::kNo,
        fmt::format("{}: the least that {}'s types lose of this model is {:.3g}, at {} bytes",
                    Wanted(), FindFormat(target_.format).title, least,
                    FormatCount(output_bytes_(TargetOf(*largest)))));
  }

  std::uint64_t SmallestBytes() const {
    std::uint64_t sum = 0;
    for (const std::vector<MixOption>& options : choices_)
      sum += std::ranges::min(options, {}, &MixOption::size_bytes).size_bytes;
    return sum;
  }

  MixReport Report(const MixChoice& choice) {
    MixReport report = ReportFrontier();
    report.rules = RulesOf(source_.model, units_, choice, candidates_, Reason());
    report.predicted_kl = choice.loss;
    if (text_ != nullptr) {
      report.measured_kl = measured_kl_ ? *measured_kl_ : Measure(target_);
      report.n_tokens = HeldBack().ids.size();
      memory_bytes_ = std::max(
          memory_bytes_,
          FixedBytes(source_) + MeasuringBytes(source_.model.config, 1, HeldBack(), measuring()));
    }
    report.memory_bytes = memory_bytes_;
    const auto larger = std::ranges::upper_bound(report.frontier, choice.size_bytes + other_bytes_,
                                                 {}, &MixReport::Point::data_bytes);
    report.frontier.insert(larger, PointOf(choice, /*is_chosen=*/true));
    return report;
  }

  MixReport::Point PointOf(const MixChoice& choice, bool is_chosen = false) const {
    const std::uint64_t n_bytes = choice.size_bytes + other_bytes_;
    const auto n_weights = static_cast<double>(candidates_.front().plan->n_weights());
    return {n_bytes, static_cast<double>(n_bytes) * 8 / n_weights, choice.loss, is_chosen};
  }

  // From everything at its smallest to everything at its largest, closer where sizes are small.
  MixReport ReportFrontier() const {
    MixReport report;
    report.memory_bytes = memory_bytes_;
    report.seconds = seconds_;
    std::uint64_t largest = 0;
    for (const std::vector<MixOption>& options : choices_)
      largest += std::ranges::max(options, {}, &MixOption::size_bytes).size_bytes;
    const auto least = static_cast<double>(SmallestBytes()), most = static_cast<double>(largest);
    for (std::size_t p = 0; p < kFrontierPoints; ++p) {
      const double share = static_cast<double>(p) / (kFrontierPoints - 1);
      const auto room = static_cast<std::uint64_t>(least + (most - least) * share * share);
      const std::optional<MixChoice> at = LeastLoss(choices_, room);
      if (!at) continue;
      const MixReport::Point point = PointOf(*at);
      if (report.frontier.empty() || report.frontier.back().data_bytes != point.data_bytes)
        report.frontier.push_back(point);
    }
    return report;
  }

  // Nothing is known of what tensors are worth.
  MixReport ChooseRecipe() {
    if (mix_.kl) throw NeedsText();
    std::optional<std::pair<std::uint64_t, std::string>> best, least;
    double least_bits = 0;
    const auto n_bytes = [&](const PlanOptions& one) {
      if (mix_.size_bytes) return output_bytes_(one);
      return TensorBytes(*MakePlan(source_, AsReference(one)));
    };
    for (const TypeName& type : FindFormat(target_.format).types()) {
      PlanOptions one = target_;
      one.type = type.name;
      std::uint64_t size = 0;
      double bits = 0;
      try {
        const std::unique_ptr<Plan> plan = MakePlan(source_, AsReference(one));
        bits = plan->bits_per_weight();
        size = n_bytes(one);
      } catch (const Error&) {
        continue;  // other options contradict this type
      }
      if (!least || size < least->first) {
        least = {size, one.type};
        least_bits = bits;
      }
      const bool fits = mix_.size_bytes ? size <= *mix_.size_bytes : bits <= *mix_.bits_per_weight;
      if (fits && (!best || size > best->first)) best = {size, one.type};
    }
    if (!best) throw TooSmall(least ? least->first : 0, least_bits);
    target_.type = best->second;
    if (hooks_.warn)
      hooks_.warn({ErrorCode::kUsage,
                   fmt::format("{}: without a text the recipe {} is taken, the largest that fits; "
                               "--calibrate self or --calibrate FILE chooses tensor by tensor",
                               Wanted(), best->second)});
    MixReport report;
    report.recipe = best->second;
    return report;
  }

  const ConvertOptions& options_;
  MixOptions mix_;
  const SourceModel& source_;
  const calibrate::CalibrationText* text_;  // nullptr: there is none that can be measured on
  bool is_text_to_come_;                    // the model writes it when it is run
  unsigned threads_;
  const OutputBytes& output_bytes_;
  PlanOptions& target_;
  const Hooks& hooks_;

  std::vector<Candidate> candidates_;
  std::string fixed_;  // the name of a tensor whose type is not chosen; "": none
  std::size_t measured_candidate_ = 0;
  Sensitivities measured_;
  std::vector<Unit> units_;
  std::vector<std::vector<MixOption>> choices_;
  std::uint64_t other_bytes_ = 0;  // of tensors that are no units
  std::optional<double> measured_kl_;
  std::uint64_t memory_bytes_ = 0;  // while it was measured
  double seconds_ = 0;              // that it was estimated to take
};

}  // namespace

std::optional<MixReport> ChooseMix(const ConvertOptions& options, const SourceModel& source,
                                   const Calibration* calibration, unsigned threads,
                                   const OutputBytes& output_bytes, bool is_plan,
                                   PlanOptions& target, const Hooks& hooks) {
  return Chooser(options, source, calibration, threads, output_bytes, target, hooks)
      .Choose(is_plan);
}

}  // namespace phiq
