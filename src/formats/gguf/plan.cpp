// Plans a GGUF file: recipe, then rules, then what the shapes allow.
#include "formats/gguf/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/format.h"
#include "formats/gguf/expression.h"
#include "formats/gguf/recipe.h"
#include "model/rope.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::gguf {
namespace {

GgmlType ParseTensorType(const TensorRule& rule) {
  if (const std::optional<GgmlType> type = FindGgmlType(rule.type)) return *type;
  throw UnknownTensorType(rule, NamesOf(GgmlTypes()));
}

// The type nearest in bits whose blocks are smaller; llama-quantize's choice.
GgmlType SmallerBlocks(GgmlType type) {
  switch (type) {
    case GgmlType::kQ2_K:
    case GgmlType::kQ3_K:
      return GgmlType::kQ4_0;
    case GgmlType::kQ4_K:
      return GgmlType::kQ5_0;
    case GgmlType::kQ5_K:
      return GgmlType::kQ5_1;
    case GgmlType::kQ6_K:
      return GgmlType::kQ8_0;
    case GgmlType::kIQ4_XS:
      return GgmlType::kIQ4_NL;
    default:
      return GgmlType::kF16;  // whose block is one weight
  }
}

std::optional<std::uint64_t> FindSplitSize(const PlanOptions& options) {
  const std::optional<std::string> text = FindKnob(options, "split-max-size");
  if (!text) return std::nullopt;
  try {
    return ParseSize(*text);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("--split-max-size: {}", error.what()));
  }
}

// The wanted type, or one whose blocks fit the row.
void FitToShape(PlanLine& line, GgmlType wanted, bool strict, const WarningFn& warn) {
  const auto block_size = [](GgmlType type) { return GetGgmlTypeInfo(type).block_size; };
  GgmlType type = wanted;
  while (line.row_elements() % block_size(type) != 0) type = SmallerBlocks(type);
  line.encoding = type;
  if (type == wanted) return;
  TakeFallback(
      line,
      fmt::format("row of {} is not a multiple of {}: {} -> {}", line.row_elements(),
                  block_size(wanted), GetGgmlTypeInfo(wanted).name, GetGgmlTypeInfo(type).name),
      strict, warn);
}

void DescribeExperts(const ModelConfig& config, const PlanOptions& options, FilePlan& plan,
                     const WarningFn& warn) {
  plan.is_reexpressed = ExpressionOf(config, options).has_zero_mean;
  if (plan.is_reexpressed) {
    plan.decisions.push_back(
        {"weights", "re-expressed",
         "llama.cpp has an RMS norm and a softmax of two experts where PhiMoE has a LayerNorm and "
         "sparsemixer: from these weights it computes the model's function"});
  } else if (warn) {
    warn({ErrorCode::kBadData,
          "config.json: --method reference keeps the weights as they are, from which llama.cpp "
          "computes another function than PhiMoE's (a KL divergence of 0.071 on a small model, "
          "before "
          "any rounding)"});
  }
  if (config.long_attention_factor && warn) {
    warn({ErrorCode::kBadData,
          fmt::format("config.json: long_mscale {} is another than short_mscale {}, and GGUF has "
                      "one: texts longer than {} differ from the model's",
                      *config.long_attention_factor, RopeAttentionFactor(config),
                      config.original_max_position_embeddings)});
  }
}

}  // namespace

std::unique_ptr<Plan> MakePlan(const Model& model, const PlanOptions& options,
                               const WarningFn& warn) {
  const Recipe& recipe = FindRecipe(options.type);
  std::vector<GgmlType> rule_types;
  for (const TensorRule& rule : options.tensor_rules) rule_types.push_back(ParseTensorType(rule));

  const bool tied = IsTied(model);
  const std::vector<std::optional<std::size_t>> deciding =
      MatchRules(options.tensor_rules, SubjectsOf(model));

  WarnOfIgnoredWindow(model.config, "llama.cpp", warn);
  auto made = std::make_unique<FilePlan>();
  FilePlan& plan = *made;
  plan.type = recipe.name;
  plan.split_max_bytes = FindSplitSize(options);
  if (model.config.n_experts > 0) DescribeExperts(model.config, options, plan, warn);
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const ModelTensor& tensor = model.tensors[i];
    PlanLine line = LineOf(tensor);
    GgmlType wanted = GgmlType::kF32;
    if (StaysFloat(tensor.role)) {
      line.reason = FloatReason(tensor.role);
    } else if (deciding[i]) {
      const TensorRule& rule = options.tensor_rules[*deciding[i]];
      const bool is_shared = tied && tensor.role == TensorRole::kTokenEmbedding;
      wanted = rule_types[*deciding[i]];
      line.reason = RuleReason(rule) + (is_shared ? ", tied: the output head too" : "");
    } else {
      TypeChoice choice = ChooseType(recipe, model.config, tensor.role, tensor.layer, tied,
                                     options.with_importance);
      wanted = choice.type;
      line.reason = std::move(choice.reason);
    }
    FitToShape(line, wanted, options.strict_types, warn);
    plan.lines.push_back(std::move(line));
  }
  if (!model.config.long_factor.empty()) {
    for (const ConfigTable table : {ConfigTable::kLongFactor, ConfigTable::kShortFactor})
      plan.lines.push_back(LineOf(model.config, table, "longrope factors of config.json"));
  }
  for (PlanLine& line : plan.lines) SetSize(line);
  return made;
}

}  // namespace phiq::gguf
