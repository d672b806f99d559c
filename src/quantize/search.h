// What methods that search for scales share.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "phiq/encoding.h"
#include "phiq/quantize.h"

namespace phiq {

// The mean squares as a search wants them: of a mean of 1, and positive, so that weights whose
// input was always 0 get nearest codes too. All 1 when all are 0.
std::vector<float> ImportanceOf(std::span<const float> squares);

// For each block a grid (kernels/grid.h), then the codes nearest to the weights. As
// Method::quantize.
void QuantizeSearchedRows(const Encoding& encoding, const RawRows& x, std::size_t n,
                          std::span<const float> importance,
                          std::span<const std::span<std::byte>> arrays);

}  // namespace phiq
