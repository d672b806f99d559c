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
  std::uint64_t n_rows = 0, row_elements = 0;  // vectors: 1 x n
  std::uint64_t n_matrices = 1;                // that share the rows out: one for each expert

  bool operator==(const WeightShape&) const = default;
};

struct WeightPart {
  TensorPart part = TensorPart::kWhole;
  std::string name;  // "model.layers.3.self_attn.q_proj.weight"
  std::uint64_t first_row = 0, n_rows = 0;
};

// Rows of a weight in a tensor that holds more than them: in each of its matrices from first_row
// on.
struct WeightStack {
  std::string name;                              // "model.layers.3.mlp.experts.gate_up_proj"
  std::uint64_t first_row = 0, matrix_rows = 0;  // of a matrix of the tensor
};

struct WeightInfo {
  WeightId id;
  std::string name;  // in a checkpoint: "model.layers.3.mlp.down_proj.weight"
  WeightShape shape;
  std::string_view keys;             // of config.json, which give the shape
  std::vector<WeightPart> parts;     // all rows, in their order; empty: no such parts
  std::optional<WeightStack> stack;  // where a checkpoint may have the rows instead
};

// Rows first: [n] of vectors, [matrices, rows, n] of several matrices.
std::vector<std::uint64_t> DimsOf(const WeightInfo& weight);
// The same of `n_rows` of its rows; part of several matrices is one.
std::vector<std::uint64_t> DimsOf(TensorRole role, const WeightShape& shape, std::uint64_t n_rows);

// Every weight in the model's order; the head of tied models too.
std::vector<WeightInfo> WeightsOf(const ModelConfig& config);

// Whether the model has such a weight, in every layer or outside of them.
bool HasWeight(const ModelConfig& config, TensorRole role);

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
