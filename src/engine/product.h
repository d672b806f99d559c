// The matrix product of the engine and of everything that is built on it.
//
// Each element of a product is a sum of panels of kPanelDepth terms, first to last; a panel is a
// chain of fused multiply-adds from 0 on, first term to last. So the bits do not depend on the
// instruction set, on threads, on how a product is cut into rows and columns, or on where the
// arrays lie.
#pragma once

#include <cstddef>

namespace phiq::engine {

inline constexpr std::size_t kPanelDepth = 256;

// The right factor of a product, [depth, n_columns]: row k and column c at data[k * stride + c],
// or, transposed, at data[c * stride + k].
struct Factor {
  const float* data = nullptr;
  std::size_t stride = 0;
  bool is_transposed = false;
};

enum class Into { kReplace, kAdd, kSubtract };

// c = a * b, c += a * b or c -= a * b, panel by panel.
//
// Shapes    a: [n_rows, depth] and c: [n_rows, n_columns], rows `stride` floats apart; depth >= 1.
//           Nothing between the rows of c is touched, and c overlaps neither factor.
// Error     of each element of a * b: (256 + depth / 256 + 1) * 2^-24 * sum |a * b| at most,
// without
//           overflow and underflow.
// Threads   pure, but for a buffer of the thread's own (256 KiB).
void Multiply(const float* a, std::size_t a_stride, const Factor& b, std::size_t n_rows,
              std::size_t n_columns, std::size_t depth, Into into, float* c, std::size_t c_stride);

// y = x * transposed(w): what a layer with the weights w does.
// Shapes    x: [n_rows, n_in], w: [n_out, n_in], y: [n_rows, n_out] with rows y_stride apart.
inline void MultiplyByRows(const float* x, std::size_t n_rows, std::size_t n_in, const float* w,
                           std::size_t n_out, float* y, std::size_t y_stride) {
  Multiply(x, n_in, {w, n_in, true}, n_rows, n_out, n_in, Into::kReplace, y, y_stride);
}

}  // namespace phiq::engine
