// Second moments of a product's input, made fit for error feedback (phiq/quantize.h, kFeedback).
#pragma once

#include "engine/linear_algebra.h"

namespace phiq::calibrate {

inline constexpr float kDefaultShrink = 0.2F;

// The moments H become, in place, the upper triangular U with inverse(H'') = transposed(U) * U:
//
//   H'  = (1 - shrink) * H + shrink * diagonal of H
//   H'' = H' + 0.002 * (mean of the diagonal of H that is not 0) * I
//
// Few tokens do not determine all correlations: shrinking takes each of them back by a share, and
// leaves the diagonal. A column that no token touched, 0 on H's diagonal, has the added term alone;
// when all are such, it is 1. The term is doubled, up to 10 times, where H'' is not positive.
//
// Shapes    h: [n, n], read on the diagonal and above it; below it, nothing of use is left.
// Requires  finite; a diagonal not negative and at most 1e30; shrink in [0, 1].
// Returns   false when no U is found whose diagonal is above 0 and finite: h is then of no use.
// Threads   the same bits for any number, on every instruction set.
bool FactorMoments(const engine::Runner& runner, float shrink, engine::Matrix& h);

}  // namespace phiq::calibrate
