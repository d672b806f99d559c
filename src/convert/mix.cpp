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
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/portable_math.h"
#include "base/sha256.h"
#include "convert/memory.h"
#include "convert/rounded_model.h"
#include "convert/sensitivity.h"
#include "formats/format.h"
#include "io/outputs.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "plan/knapsack.h"

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

// What is given one type: a tensor of the checkpoint, with its options and their types.
struct Unit {
  std::string name;
  std::vector<MixOption> options;
  std::vector<std::size_t> candidates;  // of the options
};

std::string Wanted(const MixOptions& mix) {
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

// `fixed`  the name of a tensor whose type is not chosen.
std::vector<Unit> MakeUnits(const SourceModel& source, std::span<const Candidate> candidates,
                            std::size_t measured_candidate, const Sensitivities& measured,
                            std::string_view fixed) {
  std::vector<Unit> units;
  const Plan& base = *candidates[measured_candidate].plan;
  for (std::size_t i = 0; i < base.lines.size(); ++i) {
    const PlanLine& line = base.lines[i];
    if (!IsMatrix(line) || line.name == fixed) continue;
    auto unit = std::ranges::find(units, line.name, &Unit::name);
    const bool is_new = unit == units.end();
    if (is_new) unit = units.insert(unit, {line.name, {}, {}});
    const double share = ShareOf(measured, line), base_error = SquaredError(source, line);
    std::size_t option = 0;
    for (std::size_t c = 0; c < candidates.size(); ++c) {
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
      if (base_error > 0) here.loss += share * error / base_error;
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
std::vector<TensorRule> RulesOf(std::span<const Unit> units, const MixChoice& choice,
                                std::span<const Candidate> candidates, const std::string& why) {
  std::vector<TensorRule> rules;
  std::vector<std::pair<std::array<std::string, 3>, std::string>> joined;  // to layers
  for (std::size_t u = 0; u < units.size(); ++u) {
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
          unsigned threads, const std::function<std::uint64_t(const PlanOptions&)>& output_bytes,
          PlanOptions& target, const Hooks& hooks)
      : options_(options),
        mix_(*options.mix),
        source_(source),
        text_(calibration != nullptr && !calibration->text.sha256.empty() ? &calibration->text
                                                                          : nullptr),
        is_text_to_come_(calibration != nullptr && calibration->text.n_windows() > 0),
        threads_(threads),
        output_bytes_(output_bytes),
        target_(target),
        hooks_(hooks) {}

  MixReport Choose() {
    const Format& format = FindFormat(target_.format);
    if (format.mixed_types.empty())
      throw Error(ErrorCode::kUsage,
                  fmt::format("{}: {}'s tensors have one type", Wanted(mix_), format.title));
    std::error_code ignored;
    const bool has_file = !mix_.sensitivities.empty() && fs::exists(mix_.sensitivities, ignored);
    if (text_ == nullptr && !has_file && is_text_to_come_)
      throw Error(ErrorCode::kUsage,
                  fmt::format("{}: what types are worth is not known before the model has written "
                              "its text",
                              Wanted(mix_)))
          .Hint("plan with --sensitivity FILE that an earlier quantize wrote, or --calibrate FILE");
    if (text_ == nullptr && !has_file) return ChooseRecipe();
    MakeCandidates();
    if (has_file) {
      measured_ = ReadSensitivities(mix_.sensitivities);
      CheckMeasured();
    } else {
      MeasureKinds();
    }
    units_ = MakeUnits(source_, candidates_, measured_candidate_, measured_, fixed_);
    choices_ = OptionsOf(units_);
    const MixChoice choice = mix_.kl ? WithinLoss() : WithinSize();
    target_ = TargetOf(choice);
    return Report(choice);
  }

 private:
  void MakeCandidates() {
    for (const std::string_view type : FindFormat(target_.format).mixed_types) {
      const auto add = [&] {
        std::vector<TensorRule> rules;
        for (const ModelTensor& tensor : source_.model.tensors)
          if (!StaysFloat(tensor.role) && tensor.name != fixed_)
            rules.push_back({fmt::format("^{}$", Quoted(tensor.name)), std::string(type)});
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
  std::size_t NearestCandidate() const {
    const auto distance = [&](const Candidate& candidate) {
      const Plan& plan = *candidate.plan;
      double bits = 4.5;  // of a loss: about where people look for one
      if (mix_.bits_per_weight) bits = *mix_.bits_per_weight;
      if (mix_.size_bytes)
        bits = static_cast<double>(*mix_.size_bytes) * 8 / static_cast<double>(plan.n_weights());
      return std::abs(PortableLog(plan.bits_per_weight() / bits));
    };
    std::size_t best = 0;
    for (std::size_t c = 1; c < candidates_.size(); ++c)
      if (distance(candidates_[c]) < distance(candidates_[best])) best = c;
    return best;
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

  PlanOptions TargetOf(const MixChoice& choice) const {
    return WithTypes(target_, RulesOf(units_, choice, candidates_, Wanted(mix_)));
  }

  Error TooSmall(std::uint64_t least_bytes, double least_bits) const {
    return Error(ErrorCode::kNo,
                 fmt::format("{}: the least that {} of this model takes is {} bytes, "
                             "{:.3f} bits per weight",
                             Wanted(mix_), FindFormat(target_.format).title,
                             FormatCount(least_bytes), least_bits));
  }

  // What the files have besides is known of a choice only when it is laid out: sizes of headers
  // depend on it a little.
  MixChoice WithinSize() {
    const std::optional<MixChoice> smallest = LeastLoss(choices_, SmallestBytes());
    const auto size_of = [&](const MixChoice& choice) -> std::uint64_t {
      if (mix_.size_bytes) return output_bytes_(TargetOf(choice));
      return TensorBytes(*MakePlan(source_, AsReference(TargetOf(choice))));
    };
    const std::uint64_t limit =
        mix_.size_bytes ? *mix_.size_bytes
                        : static_cast<std::uint64_t>(
                              *mix_.bits_per_weight / 8 *
                              static_cast<double>(candidates_.front().plan->n_weights()));
    const std::uint64_t least = size_of(*smallest);
    if (least > limit)
      throw TooSmall(least, MakePlan(source_, AsReference(TargetOf(*smallest)))->bits_per_weight());
    std::uint64_t room = limit - (least - smallest->size_bytes);
    MixChoice choice = *smallest;
    for (int round = 0; round < kMostRounds; ++round) {
      const std::optional<MixChoice> next = LeastLoss(choices_, room);
      if (!next) break;
      const std::uint64_t size = size_of(*next);
      if (size <= limit) return *next;
      room -= size - limit;
    }
    return choice;
  }

  // The sum of single divergences is a guess of what all have together: it is measured, and the
  // guess mended by that.
  MixChoice WithinLoss() {
    if (text_ == nullptr)
      throw Error(ErrorCode::kUsage, "--target-kl: needs a text to be measured on")
          .Hint("--calibrate self or --calibrate FILE");
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
                    Wanted(mix_), FindFormat(target_.format).title, least,
                    FormatCount(output_bytes_(TargetOf(*largest)))));
  }

  std::uint64_t SmallestBytes() const {
    std::uint64_t sum = 0;
    for (const std::vector<MixOption>& options : choices_)
      sum += std::ranges::min(options, {}, &MixOption::size_bytes).size_bytes;
    return sum;
  }

  MixReport Report(const MixChoice& choice) {
    MixReport report;
    report.rules = RulesOf(units_, choice, candidates_, Wanted(mix_));
    report.predicted_kl = choice.loss;
    if (text_ != nullptr) {
      report.measured_kl = measured_kl_ ? *measured_kl_ : Measure(target_);
      report.n_tokens = HeldBack().ids.size();
      memory_bytes_ = std::max(
          memory_bytes_,
          FixedBytes(source_) + MeasuringBytes(source_.model.config, 1, HeldBack(), measuring()));
    }
    report.memory_bytes = memory_bytes_;
    // From everything at its smallest to everything at its largest, in equal ratios.
    const std::uint64_t other =
        TensorBytes(*MakePlan(source_, AsReference(target_))) - choice.size_bytes;
    const auto n_weights = static_cast<double>(candidates_.front().plan->n_weights());
    std::uint64_t largest = 0;
    for (const std::vector<MixOption>& options : choices_)
      largest += std::ranges::max(options, {}, &MixOption::size_bytes).size_bytes;
    const auto least = static_cast<double>(SmallestBytes()), most = static_cast<double>(largest);
    for (std::size_t p = 0; p < kFrontierPoints; ++p) {
      const double share = static_cast<double>(p) / (kFrontierPoints - 1);
      const auto room = static_cast<std::uint64_t>(least + (most - least) * share * share);
      const std::optional<MixChoice> at = LeastLoss(choices_, room);
      if (!at) continue;
      const std::uint64_t bytes = at->size_bytes + other;
      report.frontier.push_back({bytes, static_cast<double>(bytes) * 8 / n_weights, at->loss});
    }
    return report;
  }

  // Nothing is known of what tensors are worth.
  MixReport ChooseRecipe() {
    if (mix_.kl)
      throw Error(ErrorCode::kUsage, "--target-kl: needs a text to be measured on")
          .Hint("--calibrate self or --calibrate FILE");
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
                               Wanted(mix_), best->second)});
    MixReport report;
    report.recipe = best->second;
    return report;
  }

  const ConvertOptions& options_;
  const MixOptions& mix_;
  const SourceModel& source_;
  const calibrate::CalibrationText* text_;  // nullptr: there is none that can be measured on
  bool is_text_to_come_;                    // the model writes it when it is run
  unsigned threads_;
  const std::function<std::uint64_t(const PlanOptions&)>& output_bytes_;
  PlanOptions& target_;
  const Hooks& hooks_;

  std::vector<Candidate> candidates_;
  std::string fixed_;  // the name of a tensor whose type is not chosen; "": none
  std::size_t measured_candidate_ = 0;
  Sensitivities measured_;
  std::vector<Unit> units_;
  std::vector<std::vector<MixOption>> choices_;
  std::optional<double> measured_kl_;
  std::uint64_t memory_bytes_ = 0;  // while it was measured
};

}  // namespace

MixReport ChooseMix(const ConvertOptions& options, const SourceModel& source,
                    const Calibration* calibration, unsigned threads,
                    const std::function<std::uint64_t(const PlanOptions&)>& output_bytes,
                    PlanOptions& target, const Hooks& hooks) {
  return Chooser(options, source, calibration, threads, output_bytes, target, hooks).Choose();
}

}  // namespace phiq
