// Weights that make up for what the layers before them lost.
//
// Let x be a product's input in the model as it is, x~ in the model as it is quantized so far, both
// of one token. The outputs of W on x~ are not those on x; those of W' are nearer:
//
//   H = mean of x~ transposed(x~)        D = mean of (x - x~) transposed(x~)
//   W' = W + share * W M                 M = D inverse(A), A = H + 0.1 (mean of H's diagonal) I
//
// With share 1, and without what A adds, W' x~ is the least-squares fit of W x.
#pragma once

#include <cstddef>
#include <span>

#include "calibrate/input_statistics.h"
#include "engine/linear_algebra.h"
#include "stored/stored_model.h"

namespace phiq::calibrate {

inline constexpr float kCorrectionShare = 0.5F;

// D becomes M, in place.
//
// Shapes    h: [n, n], read on the diagonal and above it, and as it was afterwards; below the
//           diagonal it becomes symmetric. d: [n, n].
// Requires  finite; h's diagonal not negative and at most 1e30.
// Returns   false when A has no factor in float32, or is 0: d is then as it was.
// Threads   the same bits for any number, on every instruction set.
bool MakeCorrection(const engine::Runner& runner, engine::Matrix& h, engine::Matrix& d);

// M, [n_block, n_block], of an input's columns from first_column on.
struct CorrectionBlock {
  std::size_t first_column = 0;
  const engine::Matrix* m = nullptr;
};

// rows + share * rows M.
//
// Shapes    rows, corrected: [n_rows, n], apart from each other. Columns that no block is of are
//           copied.
// Threads   pure; rows may be corrected at once. The same bits however they are cut.
void CorrectRows(std::span<const CorrectionBlock> blocks, float share, std::span<const float> rows,
                 std::size_t n, std::span<float> corrected);

// What the outputs of a weight are off by on held-back vectors: sums of squares over these and over
// all rows.
struct CorrectionErrors {
  double without = 0;  // W x - W x~
  double with = 0;     // W x - W' x~
  bool pays() const noexcept { return with < without; }
};
// Of the weights that share the input, all of whose rows are read.
// Shapes    of probe.held_back and probe.held_back_lacks: [tokens, n]; blocks: of all columns.
// Threads   the same bits for any number, on every instruction set.
CorrectionErrors MeasureCorrection(const engine::Runner& runner, const WeightIndex& weights,
                                   std::span<const engine::WeightRows> of, const Probe& probe,
                                   std::span<const CorrectionBlock> blocks, float share);

}  // namespace phiq::calibrate
