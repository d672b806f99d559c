// The weights of one model, from its architecture's table and its configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "phiq/model.h"

namespace phiq {

struct WeightShape {
  std::uint64_t n_rows = 0, row_elements = 0;  // norms: 1 x hidden_size

  bool operator==(const WeightShape&) const = default;
};

struct WeightPart {
  TensorPart part = TensorPart::kWhole;
  std::string name;  // "model.layers.3.self_attn.q_proj.weight"
  std::uint64_t first_row = 0, n_rows = 0;
};

struct WeightInfo {
  WeightId id;
  std::string name;  // in a checkpoint: "model.layers.3.mlp.down_proj.weight"
  WeightShape shape;
  std::string_view keys;          // of config.json, which give the shape
  std::vector<WeightPart> parts;  // all rows, in their order; empty: no such parts
};

// Every weight in the model's order; the head of tied models too.
std::vector<WeightInfo> WeightsOf(const ModelConfig& config);

// One of them. Throws kInternal: the model has no such weight.
WeightInfo InfoOf(const ModelConfig& config, WeightId id);

// What a checkpoint calls it: "model.layers.3.mlp.down_proj.weight".
std::string CheckpointName(const ModelConfig& config, WeightId id);
// The same without ".weight": "model.layers.3.mlp.down_proj".
std::string ModuleName(const ModelConfig& config, WeightId id);
// The weight that a checkpoint of some architecture calls so; nullopt: none.
std::optional<WeightId> FindWeight(std::string_view name);

// Rows and columns of the weights of a role.
WeightShape ShapeOf(const ModelConfig& config, TensorRole role);

}  // namespace phiq
