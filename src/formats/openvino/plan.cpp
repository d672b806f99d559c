// Plans an OpenVINO folder: the type of every matrix as NNCF's weight compression decides it.
#include "formats/openvino/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/parse_number.h"
#include "formats/openvino/recipe.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::openvino {
namespace {

// Those of the OpenVINO cookbook's command: --weight-format int4 --group-size 128 --ratio 0.6
// --sym.
constexpr std::uint32_t kDefaultGroup = 128;
constexpr double kDefaultRatio = 0.6;

Error Usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }

struct Wanted {
  const WeightType* type = nullptr;
  std::string reason;
};

// The value of --ratio. NNCF takes 0 for 1, so 0 is refused.
std::optional<double> FindRatio(const PlanOptions& options) {
  const std::optional<std::string> text = FindKnob(options, "ratio");
  if (!text) return std::nullopt;
  const auto value = ParseNumber<double>(*text);
  if (value && *value > 0 && *value <= 1) return value;
  throw Usage(fmt::format("--ratio: '{}' is not a number above 0 and at most 1", Escape(*text)))
      .Hint("--precision int8 is what 0 would be");
}

class Planner {
 public:
  Planner(const Model& model, const PlanOptions& options)
      : model_(model),
        options_(options),
        type_(FindWeightType(options.type)),
        backup_(FindWeightType(kBackup)),
        given_ratio_(FindRatio(options)),
        given_group_size_(FindGroupSize(options)),
        symmetric_(FindSymmetric(options)),
        ratio_(given_ratio_.value_or(kDefaultRatio)),
        group_size_(given_group_size_.value_or(kDefaultGroup)) {
    for (const TensorRule& rule : options.tensor_rules) rule_types_.push_back(&TypeOfRule(rule));
    CheckKnobs();
    DecideWanted();
  }

  // The matrices among which the ratio chooses by their errors.
  std::vector<std::size_t> Ranked() const {
    return ratio_ >= 1.0 ? std::vector<std::size_t>() : ratio_defining_;
  }

  std::unique_ptr<GraphPlan> Make(std::span<const float> int8_errors, const WarningFn& warn) {
    plan_.type = type_.name;
    ApplyRatio(int8_errors);
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      PlanLine line = LineOf(model_.tensors[i]);
      FitToShape(line, wanted_[i], warn);
      SetExactSize(line);
      if (const auto* groups = std::get_if<GroupEncoding>(&line.encoding))
        if (BitsOf(groups->code) == 4) plan_.group_size = group_size_;
      plan_.lines.push_back(std::move(line));
    }
    return std::make_unique<GraphPlan>(std::move(plan_));
  }

 private:
  static const WeightType& TypeOfRule(const TensorRule& rule) {
    if (const WeightType* type = FindByName(WeightTypes(), rule.type)) return *type;
    throw UnknownTensorType(rule, NamesOf(WeightTypes()));
  }

  void CheckKnobs() const {
    const bool has_four_bits =
        type_.bits == 4 ||
        std::ranges::any_of(rule_types_, [](const WeightType* type) { return type->bits == 4; });
    if (given_group_size_ && !has_four_bits)
      throw Usage(fmt::format("--group-size: type {} has no groups", type_.name));
    // Two codes share a byte, and a group begins in a byte of its own. OpenVINO's CPU kernels
    // want 4.
    if (group_size_ != 0 && (group_size_ < 4 || group_size_ % 2 != 0))
      throw Usage(
          fmt::format("--group-size {}: OpenVINO has even numbers from 4, and 'row'", group_size_));
    if (given_ratio_ && type_.bits != 4)
      throw Usage(fmt::format("--ratio: type {} has no 4-bit layers", type_.name));
    if (FindKnob(options_, "sensitivity-metric") && (type_.bits != 4 || ratio_ >= 1.0))
      throw Usage("--sensitivity-metric: no layer has a choice")
          .Hint("a type of 4 bits with a --ratio below 1");
    if (symmetric_ && type_.bits == 0)
      throw Usage(fmt::format("--sym, --asym: type {} has no integer codes", type_.name));
    if (symmetric_ && *symmetric_ != type_.symmetric) {
      throw Usage(
          fmt::format("{} contradicts type {}", *symmetric_ ? "--sym" : "--asym", type_.name));
    }
  }

  // By recipe and rules, one for each model tensor.
  void DecideWanted() {
    if (model_.config.long_attention_factor) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("long_mscale {} is another than short_mscale: two factors are not "
                              "written to OpenVINO",
                              *model_.config.long_attention_factor))
          .In("config.json");
    }
    const bool tied = IsTied(model_);
    const std::vector<std::optional<std::size_t>> deciding =
        MatchRules(options_.tensor_rules, SubjectsOf(model_));
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      const TensorRole role = model_.tensors[i].role;
      const bool is_shared = tied && role == TensorRole::kTokenEmbedding;
      const std::string_view shared = is_shared ? ", tied: the output head too" : "";
      Wanted& wanted = wanted_.emplace_back();
      if (StaysFloat(role)) {
        wanted = {&FindWeightType("F32"), std::string(FloatReason(role))};
      } else if (deciding[i]) {
        wanted = {rule_types_[*deciding[i]],
                  fmt::format("{}{}", RuleReason(options_.tensor_rules[*deciding[i]]), shared)};
      } else if (type_.bits == 4 &&
                 (role == TensorRole::kTokenEmbedding || role == TensorRole::kOutputHead)) {
        wanted = {&backup_,
                  fmt::format("{}: embedding and head keep 8 bits{}", type_.name, shared)};
      } else {
        wanted = {&type_, fmt::format("{}: default{}", type_.name, shared)};
        if (type_.bits == 4) ratio_defining_.push_back(i);
      }
    }
  }

  // Below a ratio of 1 some matrices keep 8 bits: NNCF ranks all by their error in INT8_ASYM, and
  // those that 8 bits serve worst become 4-bit groups first.
  void ApplyRatio(std::span<const float> int8_errors) {
    if (type_.bits != 4 || ratio_ >= 1.0 || ratio_defining_.empty()) return;
    plan_.ratio = ratio_;
    if (int8_errors.size() != Ranked().size())
      throw Error(ErrorCode::kInternal, "a ratio without an error for each matrix");
    std::uint64_t n_all = 0;
    for (const std::size_t i : ratio_defining_) n_all += WeightsOf(i);
    for (const std::size_t i : ratio_defining_)
      wanted_[i] = {&backup_, fmt::format("ratio {}: 8 bits serve it better", ratio_)};
    std::size_t n_layers = 0;
    std::uint64_t n_chosen = 0;
    for (const std::size_t rank : Ranking(int8_errors)) {
      const std::size_t i = ratio_defining_[rank];
      // The first that would reach the ratio ends it, even if a later one is small enough to fit.
      if (static_cast<double>(n_chosen + WeightsOf(i)) / static_cast<double>(n_all) >= ratio_)
        break;
      wanted_[i] = {&type_, fmt::format("ratio {}: among those that 8 bits serve worst", ratio_)};
      n_chosen += WeightsOf(i);
      ++n_layers;
    }
    AddRatioDecision(
        n_layers,
        n_all == 0 ? 0.0 : 100.0 * static_cast<double>(n_chosen) / static_cast<double>(n_all));
  }

  std::uint64_t WeightsOf(std::size_t i) const { return model_.tensors[i].n_elements(); }

  // Positions in ratio_defining_, by NNCF's sensitivity: what is first gets 4 bits first. Ties keep
  // the order of the model.
  std::vector<std::size_t> Ranking(std::span<const float> int8_errors) const {
    std::vector<double> scores;
    for (std::size_t k = 0; k < int8_errors.size(); ++k) {
      // What NNCF adds is the epsilon of the weights' own type, bfloat16 being a half to it.
      const bool is_f32 = model_.tensors[ratio_defining_[k]].dtype == DType::kF32;
      scores.push_back(1.0 / (double{int8_errors[k]} + (is_f32 ? 0x1p-23 : 0x1p-10)));
    }
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t k) { return scores[k]; });
    return order;
  }

  void AddRatioDecision(std::size_t n_layers, double percent) {
    std::uint64_t n_bytes = 0;
    for (const std::size_t i : ratio_defining_)
      n_bytes += WeightsOf(i) * DTypeBits(model_.tensors[i].dtype) / 8;
    plan_.decisions.push_back(
        {"ratio", fmt::format("{}", ratio_),
         fmt::format("{} of {} matrices of the layers, {:.1f} % of their weights, in {}; ranked by "
                     "their {} error, for which {} of weights were read",
                     n_layers, ratio_defining_.size(), percent, type_.name, kBackup,
                     FormatBytes(n_bytes))});
  }

  static void SetType(PlanLine& line, const WeightType& type, std::uint32_t group_size) {
    line.encoding = EncodingOf(type, group_size);
    line.method = type.bits == 0 ? &kGgml : &kNncf;
  }

  // The wanted type, or 8 bits where the groups do not fit the row.
  void FitToShape(PlanLine& line, const Wanted& wanted, const WarningFn& warn) const {
    SetType(line, *wanted.type, group_size_);
    line.reason = wanted.reason;
    if (wanted.type->bits != 4) return;
    const std::uint64_t multiple = group_size_ == 0 ? 2 : group_size_;
    if (line.row_elements() % multiple == 0) return;
    SetType(line, backup_, 0);
    TakeFallback(line,
                 fmt::format("row of {} is not a multiple of {}: {} -> {}", line.row_elements(),
                             multiple, wanted.type->name, kBackup),
                 options_.strict_types, warn);
  }

  static void SetExactSize(PlanLine& line) {
    line.size_bytes = 0;
    for (std::size_t a = 0; a < ArrayCount(line.encoding); ++a) {
      line.size_bytes += SizeBytes({OrderOf(line.encoding, a, line.row_elements()), line.n_rows(),
                                    ArrayRowBytes(line.encoding, a, line.row_elements())});
    }
  }

  const Model& model_;
  const PlanOptions& options_;
  const WeightType& type_;
  const WeightType& backup_;
  const std::optional<double> given_ratio_;
  const std::optional<std::uint32_t> given_group_size_;
  const std::optional<bool> symmetric_;
  double ratio_;
  std::uint32_t group_size_;
  std::vector<const WeightType*> rule_types_;
  std::vector<Wanted> wanted_;
  std::vector<std::size_t> ratio_defining_;  // indices into model_.tensors
  GraphPlan plan_;
};

}  // namespace

std::vector<Question> QuestionsOf(const Model& model, const PlanOptions& options) {
  std::vector<Question> questions;
  for (const std::size_t tensor : Planner(model, options).Ranked()) questions.push_back({tensor});
  return questions;
}

std::unique_ptr<GraphPlan> MakePlan(const Model& model, const PlanOptions& options,
                                    const Answers& int8_errors, const WarningFn& warn) {
  return Planner(model, options).Make(int8_errors, warn);
}

bool HasCodes(const Plan& plan) {
  return std::ranges::any_of(plan.lines, [](const PlanLine& line) {
    return std::holds_alternative<GroupEncoding>(line.encoding);
  });
}

Order OrderOf(const Encoding& encoding, std::size_t array, std::uint64_t row_elements) {
  const auto* groups = std::get_if<GroupEncoding>(&encoding);
  if (groups == nullptr || BitsOf(groups->code) != 4 || array != 2) return {};
  const std::size_t n_groups = GroupCount(*groups, row_elements);
  return n_groups % 2 == 0 ? Order() : Order::FlatNibbles(n_groups);
}

}  // namespace phiq::openvino
