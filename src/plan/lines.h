// What the planners of all formats do alike: lines, rules, sizes, fallbacks.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/plan.h"
#include "plan/tensor_rules.h"

namespace phiq {

// The line of a whole tensor; encoding, size and reason are still to come.
PlanLine LineOf(const ModelTensor& tensor);

// The line of a table, in float32.
PlanLine LineOf(const ModelConfig& config, ConfigTable table, std::string_view reason);

void SetSize(PlanLine& line);

// Why a weight is never quantized (StaysFloat): "norm", "bias", "router: it chooses the experts".
std::string_view FloatReason(TensorRole role) noexcept;

// Throws   kUnsupported: a model with experts, of a format that has no place for them.
void RefuseExperts(const ModelConfig& config, std::string_view format);

// True when the model has no output head of its own: the embedding serves.
bool IsTied(const Model& model) noexcept;

// "rule 'down_proj=Q6_K'".
std::string RuleReason(const TensorRule& rule);

// Error for a word that --type does not take.
Error UnknownType(std::string_view name, std::span<const std::string> known);

// Error for a rule whose type no tensor can have.
Error UnknownTensorType(const TensorRule& rule, std::span<const std::string> known);

// What rules may match where tensors stay whole; one a model tensor. A tied embedding is the head
// too.
std::vector<RuleSubject> SubjectsOf(const Model& model);

// Marks a line whose encoding is another than was wanted because of its shape.
// Throws   kUnsupported if `strict`. Warns otherwise.
void TakeFallback(PlanLine& line, std::string reason, bool strict, const WarningFn& warn);

// Warns if the model has a sliding window, of a format whose runtime has none.
void WarnOfIgnoredWindow(const ModelConfig& config, std::string_view runtime,
                         const WarningFn& warn);

}  // namespace phiq
