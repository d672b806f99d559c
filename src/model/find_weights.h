// Where a checkpoint holds the rows of each weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/weights.h"
#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "phiq/model.h"

namespace phiq {

// What 8-bit floats are multiplied by: one number for each block of rows and columns.
struct BlockScales {
  std::size_t tensor = 0;  // index into Checkpoint::tensors()
  std::uint64_t block_rows = 0, block_columns = 0;
  std::uint64_t n_columns = 0;  // of blocks, in a row of them
};

// A tensor that holds a weight, or some of its rows.
struct TensorRows {
  WeightId weight;
  std::uint64_t first_row = 0;                 // of the weight
  std::uint64_t n_rows = 0, row_elements = 0;  // norms: 1 x hidden_size
  std::size_t tensor = 0;                      // index into Checkpoint::tensors()
  std::uint64_t tensor_row = 0;                // the first of them, in the tensor
  std::optional<BlockScales> scales;
  // A tensor that has to hold the same: the head of a model whose embedding serves as the head.
  std::optional<std::size_t> twin;
};

// Every row of every weight once, in the model's order. A head that is the embedding is left out.
//
// Names    those of the model's class in transformers; the same with something before all of them
//          ("_orig_mod.", "module.", ...), or without what stands before the model inside
//          ("model."); q, k, v and gate, up together or apart; experts apart or in a stack.
// Throws   kBadData: a tensor without a role, a missing one, a wrong shape (found, expected and
//          which keys of config.json expect it). kUnsupported: weights that are no floats; packed
//          by another tool, which is named.
// Warns    of other names than the class's, of tensors that are left out, of weights that were
//          rounded to 8 bits before.
std::vector<TensorRows> FindWeights(const CheckpointFolder& folder, const ModelConfig& config,
                                    const Checkpoint& checkpoint,
                                    const std::vector<std::string>& ignore_extra,
                                    const WarningFn& warn);

}  // namespace phiq
