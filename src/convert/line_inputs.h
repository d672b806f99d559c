// What rows of a plan's line are multiplied with, and what is known or wanted of it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "convert/stream.h"
#include "formats/importance.h"
#include "phiq/plan.h"
#include "phiq/quantize.h"
#include "stored/stored_model.h"

namespace phiq {

// A matrix of the layers or the head: not an embedding that is looked up.
bool IsMatrix(WeightId id);

// The weight whose input a line's rows are multiplied with; nullopt: none.
std::optional<WeightId> InputOf(const WeightIndex& weights, const PlanLine& line);

// The most that a line of an input needs of it.
Needs NeedsOf(const WeightIndex& weights, std::span<const StreamTarget> targets, WeightId input);

// The statistics of a weight's input that a matrix has; nullptr: none.
const std::vector<float>* Find(const Importance& matrix, const WeightIndex& weights,
                               WeightId input);

}  // namespace phiq
