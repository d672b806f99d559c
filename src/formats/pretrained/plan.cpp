// Floats of one type, or each tensor's own; then rules.
#include "formats/pretrained/plan.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "formats/format.h"
#include "model/float_types.h"
#include "model/weights.h"
#include "phiq/error.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::pretrained {
namespace {

constexpr Type kTypes[] = {
    {"F32", "32 bits, exact", FloatType::kF32},
    {kAsTheyAre, "exact: F32, F16 or BF16 where the source has it, F32 of codes", std::nullopt},
    {"BF16", "16 bits, exact for bfloat16 sources", FloatType::kBF16},
    {"F16", "16 bits, exact for half floats", FloatType::kF16},
};

const Type& TypeOfRule(const TensorRule& rule) {
  if (const Type* found = FindByName(kTypes, rule.type)) return *found;
  throw UnknownTensorType(rule, NamesOf(kTypes));
}

// The rows of each expert, which a checkpoint holds as tensors of their own.
void AddLines(const Model& model, const ModelTensor& tensor, PlanLine line, Plan& plan) {
  if (tensor.shape.size() != 3) {
    SetSize(line);
    plan.lines.push_back(std::move(line));
    return;
  }
  for (const WeightPart& part : InfoOf(model.config, {tensor.role, tensor.layer}).parts) {
    PlanLine of_part = line;
    of_part.name = part.name;
    of_part.first_row = part.first_row;
    of_part.shape = {part.n_rows, line.row_elements()};
    SetSize(of_part);
    plan.lines.push_back(std::move(of_part));
  }
}

}  // namespace

std::span<const Type> Types() noexcept { return kTypes; }

const Type& FindType(std::string_view name) {
  if (const Type* found = FindByName(kTypes, name)) return *found;
  throw UnknownType(name, NamesOf(kTypes));
}

std::unique_ptr<Plan> MakePlan(const Model& model, const PlanOptions& options) {
  const Type& type = FindType(options.type);
  std::vector<const Type*> rule_types;
  for (const TensorRule& rule : options.tensor_rules) rule_types.push_back(&TypeOfRule(rule));
  const std::vector<std::optional<std::size_t>> deciding =
      MatchRules(options.tensor_rules, SubjectsOf(model));
  auto plan = std::make_unique<Plan>();
  plan->type = type.name;
  plan->needs = "transformers";
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const ModelTensor& tensor = model.tensors[i];
    PlanLine line = LineOf(tensor);
    const Type& wanted = deciding[i] ? *rule_types[*deciding[i]] : type;
    line.reason = deciding[i] ? RuleReason(options.tensor_rules[*deciding[i]])
                              : fmt::format("{}: default", type.name);
    // DescribeModel has refused every other dtype.
    line.encoding = GgmlTypeOf(wanted.floats.value_or(FloatTypeOf(tensor.dtype).value()));
    AddLines(model, tensor, std::move(line), *plan);
  }
  return plan;
}

}  // namespace phiq::pretrained
