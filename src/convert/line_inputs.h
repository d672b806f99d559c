// What rows of a plan's line are multiplied with, and what is known or wanted of it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "calibrate/inputs.h"
#include "convert/stream.h"
#include "formats/importance.h"
#include "phiq/plan.h"
#include "phiq/quantize.h"
#include "stored/stored_model.h"

namespace phiq {

// The weight whose input a line's rows are multiplied with, of all experts; nullopt: none.
std::optional<WeightId> InputOf(const WeightIndex& weights, const PlanLine& line);

// Whether a line has rows that an input is multiplied with.
bool TakesInput(const WeightIndex& weights, const PlanLine& line,
                const calibrate::MatrixInput& input);

// Whether a line's codes are chosen by error feedback, which wants second moments of its input.
bool IsFeedback(const PlanLine& line);

// The most that a line of an input needs of it.
Needs NeedsOf(const WeightIndex& weights, std::span<const StreamTarget> targets,
              const calibrate::MatrixInput& input);

// The statistics of a weight's input that a matrix has; nullptr: none.
const std::vector<float>* Find(const Importance& matrix, const WeightIndex& weights,
                               WeightId weight);
// Whether it has those of a line.
bool HasStatistics(const Importance& matrix, const WeightIndex& weights, const PlanLine& line);

}  // namespace phiq
