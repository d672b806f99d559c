// From the hidden states behind the last layer to what the text's tokens are worth:
// log-probabilities, and divergences between models. Goes through the vocabulary tile by tile for
// all positions and all models at once, so that no row of logits is ever stored whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/forward.h"

namespace phiq::engine {

// One model's positions: what ForwardPass::NormalizeOutput gave.
struct HeadInput {
  const ForwardModel* model = nullptr;
  const Matrix* x = nullptr;  // [n_positions, hidden_size]
};

// One value for each position.
struct PositionScores {
  std::vector<double> log_prob;     // of the target token, nats
  std::vector<std::uint32_t> best;  // the most probable token; the lowest of equal ones
  std::vector<double> kl;           // KL(first model || this one), nats; 0 for the first itself
};

// Scores `targets[i]` at position i for every model; the divergences are those from models[0].
//
// Throws   kNumeric: logits that are not finite.
// Source   docs/evaluation.md "Figures".
std::vector<PositionScores> ScorePositions(const Runner& runner, std::span<const HeadInput> models,
                                           std::span<const std::uint32_t> targets);

}  // namespace phiq::engine
