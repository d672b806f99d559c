// The inputs of a model's matrices, in the order of the products.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/forward.h"
#include "phiq/model.h"

namespace phiq::calibrate {

// What some matrices are multiplied with: queries, keys and values share an input; of each expert
// its gate and its up matrix.
struct MatrixInput {
  // The first of them, by which the input is called, and all of them. Those of an expert have its
  // number.
  WeightId weight;
  std::vector<WeightId> weights;
  std::size_t n_columns = 0;

  bool is_of_expert() const noexcept { return weight.expert >= 0; }
};

// Layer by layer, the head's last. Those of a layer's experts are its last ones, expert by expert:
// what is inside of one comes from its own gate and up matrix alone.
std::vector<MatrixInput> InputsOf(const ModelConfig& config);

// All rows of a weight; of a weight with an expert's number, those of the expert.
engine::WeightRows RowsOf(const ModelConfig& config, WeightId weight);

// "the input of layer 3's mlp_down", "the input of layer 3's expert_gate 5".
std::string InputName(WeightId weight);

}  // namespace phiq::calibrate
