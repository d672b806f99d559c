// The weights that every Phi3ForCausalLM has: which, how large, and what a checkpoint calls them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phiq/model.h"

namespace phiq {

struct WeightId {
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;  // -1: outside the layers

  auto operator<=>(const WeightId&) const = default;
};

// The embedding, each layer's six, the output norm, the head (of tied models too).
std::vector<WeightId> WeightsOf(const ModelConfig& config);

// "model.layers.3.mlp.down_proj.weight".
std::string CheckpointName(WeightId weight);

// Rows and columns of a weight as a checkpoint has it; norms: 1 x hidden_size.
struct WeightShape {
  std::uint64_t n_rows = 0, row_elements = 0;

  bool operator==(const WeightShape&) const = default;
};
WeightShape ShapeOf(const ModelConfig& config, TensorRole role) noexcept;

}  // namespace phiq
