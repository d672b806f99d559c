// A tied embedding is multiplied as the head, whatever its line is called.
#include "convert/line_inputs.h"

#include <algorithm>

#include "phiq/quantize.h"
#include "plan/methods.h"

namespace phiq {

namespace {

// Of the layers or the head: not an embedding that is looked up.
bool IsMultiplied(WeightId id) {
  return !StaysFloat(id.role) && id.role != TensorRole::kTokenEmbedding;
}

}  // namespace

std::optional<WeightId> InputOf(const WeightIndex& weights, const PlanLine& line) {
  if (line.table || StaysFloat(line.role)) return std::nullopt;
  const WeightId stored = weights.StoredAs({line.role, line.layer});
  if (IsMultiplied(stored)) return stored;
  // A tied embedding is multiplied as the head, but where that has a line of its own.
  if (line.role == TensorRole::kTokenEmbedding && line.method == &kSearch) return std::nullopt;
  return weights.StoredAs({TensorRole::kOutputHead}) == stored ? std::optional(stored)
                                                               : std::nullopt;
}

bool TakesInput(const WeightIndex& weights, const PlanLine& line,
                const calibrate::MatrixInput& input) {
  const std::optional<WeightId> weight = InputOf(weights, line);
  return weight && std::ranges::any_of(input.weights, [&](const WeightId& one) {
           return weights.StoredAs({one.role, one.layer}) == *weight;
         });
}

bool IsFeedback(const PlanLine& line) { return line.method == &kFeedback; }

Needs NeedsOf(const WeightIndex& weights, std::span<const StreamTarget> targets,
              const calibrate::MatrixInput& input) {
  Needs needs = Needs::kNothing;
  for (const StreamTarget& target : targets)
    for (const PlanLine& line : target.plan->lines)
      if (TakesInput(weights, line, input)) needs = std::max(needs, line.method->needs);
  return needs;
}

const std::vector<float>* Find(const Importance& matrix, const WeightIndex& weights,
                               WeightId weight) {
  if (const std::vector<float>* squares = matrix.Find(weight)) return squares;
  const WeightId head = {TensorRole::kOutputHead};
  return weights.StoredAs(head) == weight ? matrix.Find(head) : nullptr;
}

bool HasStatistics(const Importance& matrix, const WeightIndex& weights, const PlanLine& line) {
  std::optional<WeightId> weight = InputOf(weights, line);
  if (!weight) return false;
  if (IsOfExperts(weight->role)) weight->expert = 0;  // each of a layer's experts or none has any
  return Find(matrix, weights, *weight) != nullptr;
}

}  // namespace phiq
