// A tied embedding is multiplied as the head, whatever its line is called.
#include "convert/line_inputs.h"

#include <algorithm>

#include "phiq/quantize.h"
#include "plan/methods.h"

namespace phiq {

bool IsMatrix(WeightId id) {
  return !StaysFloat(id.role) && id.role != TensorRole::kTokenEmbedding;
}

std::optional<WeightId> InputOf(const WeightIndex& weights, const PlanLine& line) {
  if (line.table || StaysFloat(line.role)) return std::nullopt;
  const WeightId stored = weights.StoredAs({line.role, line.layer});
  if (IsMatrix(stored)) return stored;
  // A tied embedding is multiplied as the head, but where that has a line of its own.
  if (line.role == TensorRole::kTokenEmbedding && line.method == &kSearch) return std::nullopt;
  return weights.StoredAs({TensorRole::kOutputHead}) == stored ? std::optional(stored)
                                                               : std::nullopt;
}

Needs NeedsOf(const WeightIndex& weights, std::span<const StreamTarget> targets, WeightId input) {
  Needs needs = Needs::kNothing;
  for (const StreamTarget& target : targets)
    for (const PlanLine& line : target.plan->lines)
      if (InputOf(weights, line) == input) needs = std::max(needs, line.method->needs);
  return needs;
}

const std::vector<float>* Find(const Importance& matrix, const WeightIndex& weights,
                               WeightId input) {
  if (const std::vector<float>* squares = matrix.Find(input)) return squares;
  const WeightId head = {TensorRole::kOutputHead};
  return weights.StoredAs(head) == input ? matrix.Find(head) : nullptr;
}

}  // namespace phiq
