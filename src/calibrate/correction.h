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

#include "engine/linear_algebra.h"

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

// rows + share * rows M, for the columns that M is of; the others are copied.
//
// Shapes    rows, corrected: [n_rows, n], apart from each other; m: [n_block, n_block], of the
//           columns from first_column on.
// Threads   pure; rows may be corrected at once. The same bits however they are cut.
void CorrectRows(const engine::Matrix& m, std::size_t first_column, float share,
                 std::span<const float> rows, std::size_t n, std::span<float> corrected);

}  // namespace phiq::calibrate
