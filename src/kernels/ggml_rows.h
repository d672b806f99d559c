// Rows of weights to GGUF's blocks, as llama-quantize makes them.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/simd/weights.h"
#include "phiq/ggml_type.h"

namespace phiq {

// Encodes weights the way llama-quantize does without an importance matrix (bit for bit).
//
// Shapes    x: n weights of any type, n a multiple of the block size: a row, or rows of whole
// blocks one behind the
//           other; out: GgmlRowBytes(type, n) bytes.
// Requires  every x finite.
// Edges     F16 overflow gives Inf and a scale may overflow to Inf: ask FindNonFinite afterwards.
// Threads   pure; rows may run at once.
// Source    docs/quantization.md.
void QuantizeGgmlRow(GgmlType type, const Weights& x, std::size_t n,
                     std::span<std::byte> out) noexcept;
inline void QuantizeGgmlRow(GgmlType type, std::span<const float> x,
                            std::span<std::byte> out) noexcept {
  QuantizeGgmlRow(type, Weights(x.data()), x.size(), out);
}

// One row, the way llama-quantize does with an importance matrix (bit for bit).
//
// Shapes    importance, x: [n]: mean squares of the input of each column, which weight the errors.
// Requires  importance finite and not negative, below 1e30.
void QuantizeGgmlRow(GgmlType type, std::span<const float> importance, std::span<const float> x,
                     std::span<std::byte> out) noexcept;

}  // namespace phiq
