// Blocks and codes back to weights, for the processor at run time.
//
// Threads   pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "phiq/encoding.h"
#include "phiq/ggml_type.h"

namespace phiq::simd {

// Any type but the floats. Shapes: x: [n_blocks * block size].
void DecodeBlocks(GgmlType type, const std::byte* blocks, std::size_t n_blocks, float* x);

// The value of a code in group g: scales[g] * value for floats and scales[g] * (code -
// zero_points[g]) for integers, which are unsigned, with biases[g] added where there are any. The
// last group may be a part of one.
struct CodedGroups {
  Code code = Code::kU8;
  std::size_t size = 0;
  const float* scales = nullptr;
  const std::uint8_t* zero_points = nullptr;  // of integers
  const float* biases = nullptr;              // null: none
};
// Shapes    codes, x: [n].
void DecodeCodes(const std::uint8_t* codes, std::size_t n, const CodedGroups& groups, float* x);

}  // namespace phiq::simd
