// Linear algebra of calibration: second moments of what goes into a weight, their factor and its
// inverse, by the engine's own product (product.h).
//
// Everything here is the same bits for any number of threads, on every instruction set: threads and
// tiles divide results, never sums. Rates are near the product's; what is not a product are the
// panels of kPanelRows on the diagonal.
//
// A triangular matrix stands in a Matrix whose other half is somebody else's: it is neither read
// nor written.
#pragma once

#include <cstddef>

#include "engine/forward.h"

namespace phiq::engine {

inline constexpr std::size_t kPanelRows = 128;

// h += transposed(x) * x, on the diagonal and above it.
//
// Shapes    x: [n_tokens, n], rows x_stride floats apart; h: [n, n].
// Order     256 tokens at a time from the first one on: each product of such a panel is a chain of
//           fused multiply-adds over its tokens, and is then added to h. A text may be given in
//           several calls; the same bits come of calls that end at the same multiples of 256.
void AddMoments(const Runner& runner, const float* x, std::size_t x_stride, std::size_t n_tokens,
                Matrix& h);

// d += transposed(y) * x, all of it.
// Shapes    x and y: [n_tokens, n], rows `stride` floats apart; d: [n, n]. Order as in AddMoments.
void AddCrossMoments(const Runner& runner, const float* y, const float* x, std::size_t stride,
                     std::size_t n_tokens, Matrix& d);

// Copies what is above the diagonal to below it.
void MirrorToLower(Matrix& h);

// The upper triangle of a symmetric positive definite h becomes the upper triangular R with
// h = R * transposed(R): Cholesky's factor of h with rows and columns in reverse order, turned
// back.
//
// Shapes    h: [n, n]
// Returns   false when a pivot is not above 0 or not finite: the upper triangle is then of no use,
//           and can be copied back from the lower one, with the diagonal kept elsewhere.
// Error     with u = 2^-24, |R * transposed(R) - h| <= (n + 1) u |R| |transposed(R)|, and in the
// rows
//           above a panel P on the diagonal, for which its inverse is multiplied with, besides
//           2 (kPanelRows + 1) u |R rows| |transposed(P)| |transposed(inverse of P)|
//           |transposed(P)|.
bool FactorReversed(const Runner& runner, Matrix& h);

// The upper triangular r becomes its inverse U; so with r from FactorReversed, the inverse of h is
// transposed(U) * U.
// Shapes    r: [n, n], with a diagonal without 0
// Error     |U * r - I| <= (n + 1) u |U| |r|, and in the columns of a panel P besides
//           2 (kPanelRows + 1) u |U| |r| |inverse of P| |P|.
void InvertUpper(const Runner& runner, Matrix& r);

// m = m * transposed(u) * u: a product with the inverse of what FactorReversed was given.
// Shapes    u: [n, n], upper triangular; m: [n_rows, n]
void MultiplyByInverse(const Runner& runner, const Matrix& u, Matrix& m);

}  // namespace phiq::engine
