// For methods that look at weights as floats: rows of whatever type, a row at a time.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/simd/floats.h"
#include "phiq/quantize.h"

namespace phiq {

// Where kernels begin to read.
inline Weights StartOf(const RawRows& x) noexcept { return {x.type, x.bytes.data()}; }

// Calls use(r, row r of x as floats), which are valid until it returns.
template <typename Use>
void ForEachFloatRow(const RawRows& x, std::size_t n, const Use& use) {
  std::vector<float> row(n);
  for (std::size_t r = 0; r < x.size() / n; ++r) {
    simd::ConvertFloats(StartOf(x).From(r * n), n, FloatType::kF32,
                        std::as_writable_bytes(std::span(row)).data());
    use(r, std::span<const float>(row));
  }
}

}  // namespace phiq
