// Which option of each unit: the least loss within a size, or the least size within a loss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace phiq {

// One way to store a unit (a tensor as a type).
struct MixOption {
  std::uint64_t size_bytes = 0;
  double loss = 0;  // losses of units add up
};
using MixUnits = std::span<const std::vector<MixOption>>;  // each unit has an option at least

// Which option of each unit, and what they sum up to.
struct MixChoice {
  std::vector<std::size_t> options;
  std::uint64_t size_bytes = 0;
  double loss = 0;
};

// The least loss of those that take at most so many bytes, but for what one unit may lose more than
// the best (the knapsack's usual greedy bound). nullopt: even the smallest options take more.
//
// Determinism  depends on nothing but the numbers; among equals the first unit, the first option.
// Source       Sinha, Zoltners 1979 (multiple-choice knapsack by the convex hulls of the units).
std::optional<MixChoice> LeastLoss(MixUnits units, std::uint64_t most_bytes);

// The least bytes of those that lose at most so much, but for one unit. nullopt: none loses so
// little.
std::optional<MixChoice> LeastBytes(MixUnits units, double most_loss);

}  // namespace phiq
