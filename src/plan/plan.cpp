// Makes the plan: recipe, then rules, then what the shapes allow.
#include "phiq/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/gguf_recipe.h"
#include "plan/tensor_rules.h"

namespace phiq {
namespace {

Error NotWritten(Format format) {
  return Error(ErrorCode::kUnsupported,
               fmt::format("format '{}' is not written by this version", FormatName(format)));
}

GgmlType ParseTensorType(const TensorRule& rule) {
  if (const std::optional<GgmlType> type = FindGgmlType(rule.type)) return *type;
  std::vector<std::string> names;
  for (const GgmlTypeInfo& info : GgmlTypes()) names.emplace_back(info.name);
  const std::string suggestion = DidYouMean(rule.type, names);
  throw Error(ErrorCode::kUsage,
              fmt::format("rule '{}={}': unknown tensor type{}{}", Escape(rule.pattern),
                          Escape(rule.type), suggestion.empty() ? "" : ", ", suggestion))
      .Hint(fmt::format("the tensor types are {}", fmt::join(names, ", ")));
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

void FitToShape(PlanLine& line, bool strict, const WarningFn& warn) {
  const GgmlType wanted = line.type;
  const auto block_size = [](GgmlType type) { return GetGgmlTypeInfo(type).block_size; };
  while (line.row_elements() % block_size(line.type) != 0) line.type = SmallerBlocks(line.type);
  if (line.type == wanted) return;
  const std::string_view wanted_name = GetGgmlTypeInfo(wanted).name;
  line.is_fallback = true;
  line.reason = fmt::format("row of {} is not a multiple of {}: {} -> {}", line.row_elements(),
                            block_size(wanted), wanted_name, GetGgmlTypeInfo(line.type).name);
  if (strict) {
    throw Error(ErrorCode::kUnsupported, line.reason)
        .Tensor(line.name)
        .Hint("--strict-types forbids fallbacks");
  }
  if (warn)
    warn({ErrorCode::kBadData, fmt::format("tensor '{}': {}", Escape(line.name), line.reason)});
}

PlanLine RopeFactors(std::string_view name, std::size_t n) {
  PlanLine line;
  line.name = name;
  line.shape = {n};
  line.source_type = "F32";
  line.reason = "longrope factors of config.json";
  return line;
}

void SetSize(PlanLine& line) {
  line.size_bytes =
      line.n_rows() * GgmlRowBytes(line.type, static_cast<std::size_t>(line.row_elements()));
}

}  // namespace

std::string_view PlanLine::role_name() const noexcept {
  return source ? RoleName(role) : "rope_factors";
}

std::uint64_t PlanLine::n_elements() const noexcept { return n_rows() * row_elements(); }

std::uint64_t PlanLine::row_elements() const noexcept { return shape.empty() ? 1 : shape.back(); }

std::uint64_t PlanLine::n_rows() const noexcept {
  if (shape.empty()) return 1;
  return std::accumulate(shape.begin(), shape.end() - 1, std::uint64_t{1}, std::multiplies<>());
}

std::uint64_t Plan::n_weights() const noexcept {
  std::uint64_t sum = 0;
  for (const PlanLine& line : lines) sum += line.n_elements();
  return sum;
}

std::uint64_t Plan::data_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const PlanLine& line : lines) sum += line.size_bytes;
  return sum;
}

double Plan::bits_per_weight() const noexcept {
  if (lines.empty()) return 0;
  return 8.0 * static_cast<double>(data_bytes()) / static_cast<double>(n_weights());
}

std::vector<TypeName> TypeNames(Format format) {
  if (format != Format::kGguf) throw NotWritten(format);
  std::vector<TypeName> names;
  for (const GgufRecipe& recipe : GgufRecipes()) names.push_back({recipe.name, recipe.description});
  return names;
}

std::string ParseType(Format format, std::string_view name) {
  if (format != Format::kGguf) throw NotWritten(format);
  return std::string(FindGgufRecipe(name).name);
}

std::string TypeOfPrecision(Format format, Precision precision) {
  if (format != Format::kGguf) throw NotWritten(format);
  switch (precision) {
    case Precision::kInt4:
      return "Q4_K_M";
    case Precision::kInt8:
      return "Q8_0";
    case Precision::kFp16:
      return "F16";
    case Precision::kBf16:
      return "BF16";
    case Precision::kFp32:
      return "F32";
  }
  throw Error(ErrorCode::kInternal, "a precision without a type");
}

Plan MakePlan(const Model& model, std::span<const SourceTensor> tensors, const PlanOptions& options,
              const WarningFn& warn) {
  if (options.format != Format::kGguf) throw NotWritten(options.format);
  const GgufRecipe& recipe = FindGgufRecipe(options.type);
  std::vector<GgmlType> rule_types;
  for (const TensorRule& rule : options.tensor_rules) rule_types.push_back(ParseTensorType(rule));

  const bool tied = std::none_of(model.tensors.begin(), model.tensors.end(),
                                 [](const auto& t) { return t.role == TensorRole::kOutputHead; });
  std::vector<RuleSubject> subjects;
  for (const ModelTensor& tensor : model.tensors) {
    RuleSubject subject{{tensors[tensor.source].name}, IsNorm(tensor.role)};
    if (tied && tensor.role == TensorRole::kTokenEmbedding)
      subject.names.push_back("lm_head.weight");
    subjects.push_back(std::move(subject));
  }
  const std::vector<std::optional<std::size_t>> deciding =
      MatchRules(options.tensor_rules, subjects);

  Plan plan{options.format, std::string(recipe.name), {}};
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const ModelTensor& tensor = model.tensors[i];
    const SourceTensor& source = tensors[tensor.source];
    PlanLine line;
    line.name = source.name;
    line.role = tensor.role;
    line.layer = tensor.layer;
    line.shape = source.shape;
    line.source = tensor.source;
    line.source_type = DTypeName(source.dtype);
    if (IsNorm(tensor.role)) {
      line.reason = "norm";
    } else if (deciding[i]) {
      const TensorRule& rule = options.tensor_rules[*deciding[i]];
      const bool is_shared = tied && tensor.role == TensorRole::kTokenEmbedding;
      line.type = rule_types[*deciding[i]];
      line.reason = fmt::format("rule '{}={}'{}", Escape(rule.pattern), Escape(rule.type),
                                is_shared ? ", tied: the output head too" : "");
    } else {
      TypeChoice choice = ChooseType(recipe, model.config, tensor.role, tensor.layer, tied);
      line.type = choice.type;
      line.reason = std::move(choice.reason);
    }
    FitToShape(line, options.strict_types, warn);
    plan.lines.push_back(std::move(line));
  }
  if (!model.config.long_factor.empty()) {
    plan.lines.push_back(RopeFactors("config:long_factor", model.config.long_factor.size()));
    plan.lines.push_back(RopeFactors("config:short_factor", model.config.short_factor.size()));
  }
  for (PlanLine& line : plan.lines) SetSize(line);
  return plan;
}

}  // namespace phiq
