// How badly 8 bits serve a weight row: what NNCF ranks matrices by.
#pragma once

#include <cstdint>
#include <span>

namespace phiq {

// The mean squared error of a weight row in INT8_ASYM (QuantizeNncf) with its float32
// scale.
//
// Shapes    x: [n], n >= 1, every x finite; codes: [n], left with the row's codes.
// Error     differences and squares are NNCF's float32; they are added up in double, where NNCF's
//           order depends on the processor.
// Source    docs/quantization.md "NNCF's integer groups".
float Int8RowError(std::span<const float> x, std::span<std::uint8_t> codes) noexcept;

}  // namespace phiq
