// Which experts a token uses, and how much of each.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "model/architecture.h"

namespace phiq::engine {

struct ExpertChoice {
  std::uint32_t expert = 0;
  float weight = 0;
};

// The two experts of a token as `experts` has it, the best first.
// Shapes    scores: [n_experts], at least 2. Of equal scores the first is the best.
// Threads   pure, but for a buffer of the thread's own.
std::array<ExpertChoice, 2> ChooseExperts(std::span<const float> scores, const Experts& experts);

}  // namespace phiq::engine
