// Tensors of a checkpoint as floats, whatever kind of floats they are.
#pragma once

#include <cstdint>
#include <span>

#include "model/find_weights.h"
#include "phiq/checkpoint.h"

namespace phiq {

// Elements [first, first + out.size()) of a tensor of F32, F16, BF16, F64, F8_E4M3 or F8_E5M2,
// rounded to float32 where it is F64. Threads: safe.
void ReadFloats(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                std::span<float> out);

// Multiplies rows, the first of which is `first_row` of its tensor, by the numbers of their blocks,
// in float32. Threads: safe.
void ScaleRows(const Checkpoint& checkpoint, const BlockScales& scales, std::uint64_t row_elements,
               std::uint64_t first_row, std::span<float> rows);

}  // namespace phiq
