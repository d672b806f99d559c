// Plans an MLX folder: the type of every tensor as mlx-lm's quantize_model decides it, then rules.
#include "formats/mlx/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/format.h"
#include "formats/mlx/recipe.h"
#include "model/float_types.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq::mlx {
namespace {

// What mlx-lm writes as the bits of a folder whose every tensor has an entry of its own.
constexpr int kRecipeBits = 4;

Error Usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }

// mlx-lm leaves out the short factors (its batches mix lengths).
std::optional<Decision> RotaryDecision(const ModelConfig& config) {
  if (config.rope_scaling != RopeScalingType::kLongRope ||
      config.short_factor == config.long_factor)
    return std::nullopt;
  return Decision{
      "rotary factors", "long",
      fmt::format("mlx-lm has them at every length: texts of up to {} tokens, for which "
                  "the model has the short ones, differ from the model's",
                  config.original_max_position_embeddings)};
}

class Planner {
 public:
  Planner(const Model& model, const PlanOptions& options)
      : model_(model),
        options_(options),
        group_size_(FindGroupSize(options)),
        rounding_(FindWord(options, "mlx-rounding", kRoundings) == 0 ? MlxRounding::kCpu
                                                                     : MlxRounding::kMetal),
        type_(FindType(options.type)) {
    CheckModel(model.config);
    for (const TensorRule& rule : options.tensor_rules) rule_types_.push_back(&TypeOfRule(rule));
    CheckGroupSize();
  }

  std::unique_ptr<FolderPlan> Make(const WarningFn& warn) {
    WarnOfIgnoredWindow(model_.config, "mlx-lm", warn);
    auto made = std::make_unique<FolderPlan>();
    FolderPlan& plan = *made;
    plan.type = type_.name;
    if (std::optional<Decision> decision = RotaryDecision(model_.config))
      plan.decisions.push_back(*std::move(decision));
    const std::vector<std::optional<std::size_t>> deciding =
        MatchRules(options_.tensor_rules, SubjectsOf(model_));
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      PlanLine line = LineOf(model_.tensors[i]);
      Decide(model_.tensors[i], line, deciding[i]);
      FitToShape(line, warn);
      SetSize(line);
      plan.lines.push_back(std::move(line));
    }
    SetCommon(plan);
    return made;
  }

 private:
  static const Type& TypeOfRule(const TensorRule& rule) {
    std::vector<std::string> known;
    for (const Type& type : Types()) {
      if (type.is_recipe()) continue;
      if (LowerAscii(type.name) == LowerAscii(rule.type)) return type;
      known.emplace_back(type.name);
    }
    throw UnknownTensorType(rule, known);
  }

  void CheckGroupSize() const {
    if (!group_size_) return;
    if (const std::uint32_t n = *group_size_; n != 32 && n != 64 && n != 128)
      throw Usage(fmt::format("--group-size {}: MLX has 32, 64 and 128",
                              n == 0 ? "row" : fmt::format("{}", n)));
    const bool has_groups =
        type_.is_affine() ||
        std::ranges::any_of(rule_types_, [](const Type* type) { return type->is_affine(); });
    if (has_groups) return;
    throw Usage(type_.has_codes() ? fmt::format("--group-size: type {} has groups of {} only",
                                                type_.name, type_.small_floats->group_size)
                                  : fmt::format("--group-size: type {} has no groups", type_.name));
  }

  // What a tensor is cast to before anything else, and stays without codes.
  FloatType FloatTypeOfTensor(const ModelTensor& tensor) const {
    if (!type_.has_codes()) return type_.float_type;
    // DescribeModel has refused every other dtype.
    return FloatTypeOf(model_.config.torch_dtype.value_or(tensor.dtype)).value();
  }

  GroupEncoding EncodingOf(const Type& type, FloatType float_type, int bits) const {
    if (!type.is_affine()) return *type.small_floats;
    return {UnsignedCode(bits), group_size_.value_or(kDefaultGroup), ScaleTypeOf(float_type),
            Offset::kBias};
  }

  // The wanted encoding, by recipe and rules.
  void Decide(const ModelTensor& tensor, PlanLine& line, std::optional<std::size_t> rule) const {
    const FloatType float_type = FloatTypeOfTensor(tensor);
    line.encoding = GgmlTypeOf(float_type);
    if (StaysFloat(line.role)) {
      line.reason = FloatReason(line.role);
      return;
    }
    const bool is_shared = line.role == TensorRole::kTokenEmbedding && IsTied(model_);
    const std::string_view shared = is_shared ? ", tied: the output head too" : "";
    const Type& type = rule ? *rule_types_[*rule] : type_;
    if (rule) {
      line.reason = fmt::format("{}{}", RuleReason(options_.tensor_rules[*rule]), shared);
      if (!type.has_codes()) line.encoding = GgmlTypeOf(type.float_type);
    } else {
      line.reason = fmt::format("{}: default{}", type.name, shared);
    }
    if (!type.has_codes()) return;
    int bits = type.bits;
    if (type.is_recipe()) {
      if (const auto why = FavouredBecause(line.role, line.layer, model_.config.n_layers)) {
        bits = type.high_bits;
        line.reason = fmt::format("{}: {}", type.name, *why);
      }
    }
    line.encoding = EncodingOf(type, float_type, bits);
    line.method = &MlxMethod(rounding_, float_type);
  }

  // mlx-lm leaves rows as floats that groups do not fit.
  void FitToShape(PlanLine& line, const WarningFn& warn) const {
    const auto* codes = std::get_if<GroupEncoding>(&line.encoding);
    if (codes == nullptr || line.row_elements() % codes->group_size == 0) return;
    const Encoding floats = GgmlTypeOf(line.method->weights);
    std::string reason =
        fmt::format("row of {} is not a multiple of {}: {} -> {}", line.row_elements(),
                    codes->group_size, EncodingName(line.encoding), EncodingName(floats));
    line.encoding = floats;
    line.method = &kGgml;
    TakeFallback(line, std::move(reason), options_.strict_types, warn);
  }

  // The encoding that config.json gives to all: that of --type, or of the first rule that has
  // codes.
  void SetCommon(FolderPlan& plan) const {
    const auto has_codes = [](const PlanLine& line) {
      return std::holds_alternative<GroupEncoding>(line.encoding);
    };
    const auto first = std::ranges::find_if(plan.lines, has_codes);
    if (first == plan.lines.end()) return;
    plan.lists_all = type_.is_recipe();
    const int bits = type_.is_recipe() ? kRecipeBits : type_.bits;
    plan.common = type_.has_codes() ? EncodingOf(type_, first->method->weights, bits)
                                    : std::get<GroupEncoding>(first->encoding);
  }

  const Model& model_;
  const PlanOptions& options_;
  const std::optional<std::uint32_t> group_size_;
  const MlxRounding rounding_;
  const Type& type_;
  std::vector<const Type*> rule_types_;
};

}  // namespace

std::unique_ptr<FolderPlan> MakePlan(const Model& model, const PlanOptions& options,
                                     const WarningFn& warn) {
  return Planner(model, options).Make(warn);
}

}  // namespace phiq::mlx
