// What a plan says of itself, and what the planners of all formats do alike.
#include "phiq/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "model/rope.h"
#include "model/weights.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq {
namespace {

std::string_view PartName(TensorPart part) noexcept {
  switch (part) {
    case TensorPart::kWhole:
      return "";
    case TensorPart::kQuery:
      return "[q]";
    case TensorPart::kKey:
      return "[k]";
    case TensorPart::kValue:
      return "[v]";
    case TensorPart::kGate:
      return "[gate]";
    case TensorPart::kUp:
      return "[up]";
  }
  return "";
}

}  // namespace

std::string_view PlanLine::role_name() const noexcept {
  if (!table) return RoleName(role);
  const bool is_factor = *table == ConfigTable::kLongFactor || *table == ConfigTable::kShortFactor;
  return is_factor ? "rope_factors" : "rope_table";
}

std::string PlanLine::display_name() const { return name + std::string(PartName(part)); }

std::uint64_t PlanLine::n_elements() const noexcept { return n_rows() * row_elements(); }

std::uint64_t PlanLine::row_elements() const noexcept { return shape.empty() ? 1 : shape.back(); }

std::uint64_t PlanLine::n_rows() const noexcept {
  if (shape.empty()) return 1;
  return std::accumulate(shape.begin(), shape.end() - 1, std::uint64_t{1}, std::multiplies<>());
}

std::uint64_t Plan::n_weights() const noexcept {
  std::uint64_t sum = 0;
  for (const PlanLine& line : lines) sum += line.table ? 0 : line.n_elements();
  return sum;
}

std::uint64_t Plan::data_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const PlanLine& line : lines) sum += line.size_bytes;
  return sum;
}

double Plan::bits_per_weight() const noexcept {
  if (n_weights() == 0) return 0;
  std::uint64_t n_bytes = 0;
  for (const PlanLine& line : lines) n_bytes += line.table ? 0 : line.size_bytes;
  return 8.0 * static_cast<double>(n_bytes) / static_cast<double>(n_weights());
}

PlanLine LineOf(const ModelTensor& tensor) {
  PlanLine line;
  line.name = tensor.name;
  line.role = tensor.role;
  line.layer = tensor.layer;
  line.shape = tensor.shape;
  line.source_type = DTypeName(tensor.dtype);
  return line;
}

PlanLine LineOf(const ModelConfig& config, ConfigTable table, std::string_view reason) {
  const TableShape shape = ShapeOf(config, table);
  PlanLine line;
  line.name = fmt::format("config:{}", ConfigTableName(table));
  line.table = table;
  line.shape = {shape.n_columns};
  if (line.role_name() == "rope_table") line.shape.insert(line.shape.begin(), shape.n_rows);
  line.source_type = "F32";
  line.reason = reason;
  return line;
}

void SetSize(PlanLine& line) {
  line.size_bytes =
      line.n_rows() * EncodedRowBytes(line.encoding, static_cast<std::size_t>(line.row_elements()));
}

std::string_view FloatReason(TensorRole role) noexcept {
  if (role == TensorRole::kRouter) return "router: it chooses the experts";
  return IsBias(role) ? "bias" : "norm";
}

void RefuseExperts(const ModelConfig& config, std::string_view format) {
  if (config.n_experts == 0) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("{} with its {} experts is not written to {}",
                                                   config.architecture, config.n_experts, format))
      .In("config.json");
}

bool IsTied(const Model& model) noexcept {
  return std::none_of(model.tensors.begin(), model.tensors.end(),
                      [](const auto& t) { return t.role == TensorRole::kOutputHead; });
}

std::string RuleReason(const TensorRule& rule) {
  if (!rule.reason.empty()) return rule.reason;
  return fmt::format("rule '{}={}'", Escape(rule.pattern), Escape(rule.type));
}

Error UnknownType(std::string_view name, std::span<const std::string> known) {
  const std::string suggestion = DidYouMean(name, known);
  return Error(ErrorCode::kUsage, fmt::format("unknown type '{}'{}{}", Escape(name),
                                              suggestion.empty() ? "" : ", ", suggestion))
      .Hint("`phiq profiles --types` lists the types");
}

Error UnknownTensorType(const TensorRule& rule, std::span<const std::string> known) {
  const std::string suggestion = DidYouMean(rule.type, known);
  return Error(ErrorCode::kUsage, fmt::format("{}: unknown tensor type{}{}", RuleReason(rule),
                                              suggestion.empty() ? "" : ", ", suggestion))
      .Hint(fmt::format("the tensor types are {}", fmt::join(known, ", ")));
}

std::vector<RuleSubject> SubjectsOf(const Model& model) {
  const bool tied = IsTied(model);
  std::vector<RuleSubject> subjects;
  for (const ModelTensor& tensor : model.tensors) {
    RuleSubject subject{{tensor.name}, StaysFloat(tensor.role)};
    if (tied && tensor.role == TensorRole::kTokenEmbedding)
      subject.names.push_back(CheckpointName(model.config, {TensorRole::kOutputHead}));
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

void TakeFallback(PlanLine& line, std::string reason, bool strict, const WarningFn& warn) {
  line.is_fallback = true;
  line.reason = std::move(reason);
  if (strict) {
    throw Error(ErrorCode::kUnsupported, line.reason)
        .Tensor(line.name)
        .Hint("--strict-types forbids fallbacks");
  }
  if (warn)
    warn({ErrorCode::kBadData, fmt::format("tensor '{}': {}", Escape(line.name), line.reason)});
}

void WarnOfIgnoredWindow(const ModelConfig& config, std::string_view runtime,
                         const WarningFn& warn) {
  if (!HasSlidingWindow(config) || !warn) return;
  warn({ErrorCode::kBadData,
        fmt::format("config.json: sliding_window {} is below the context of {}, and {} ignores it: "
                    "texts longer than the window differ from the model's",
                    config.sliding_window, config.max_position_embeddings, runtime)});
}

}  // namespace phiq
