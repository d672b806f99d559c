// Integer quantization of weight rows with a scale (and zero point) for each group: the arithmetic
// below the integer formats. GGUF's own blocks are in ggml_type.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace phiq {

struct IntegerSpec {
  int bits = 8;                // 4 or 8
  bool symmetric = true;       // zero point in the middle of the codes; else one for each group
  std::size_t group_size = 0;  // weights that share a scale; 0: the whole row
};

// Groups in a row. The last one is shorter when group_size does not divide n.
std::size_t GroupCount(const IntegerSpec& spec, std::size_t n) noexcept;

// Quantizes one weight row:  x[c] ~= scale * (code - zero_point).
//
// Shapes    x, codes: [n], n >= 1; scales, zero_points: [GroupCount(spec, n)].
// Codes     unsigned for both schemes: 0 ... 2^bits - 1.
//           Symmetric: zero_point = 2^(bits-1) always, and code - zero_point runs from -qmax to
//           qmax = 2^(bits-1) - 1, so code 0 is never produced. For signed storage subtract
//           zero_point (in two's complement: flip the top bit).
//           Affine: zero_point is an integer code, so a weight of 0 decodes to exactly 0.
// Scale     symmetric: max|x| / qmax; affine: (max(x, 0) - min(x, 0)) / (2^bits - 1).
//           Codes are computed with this float; ties round to even.
// Edges     a group with max|x| < 1e-15 decodes to zeros: scale 0, codes equal to zero_point
//           (affine: both 0).
// Requires  every x finite and below 1e38 (a decoded end may lie one step outside the data).
// Error     |x - decoded| <= scale / 2 (plus float rounding, 1e-6 * max|x|); affine: up to one
//           scale at the two ends of the range, where the zero point's own rounding shows;
//           1e-15 in a zero group.
// Threads   pure; rows may run at once.
// Source    docs/quantization.md "Integer groups"; Jacob et al. 2018, eq. 1.
void QuantizeRow(const IntegerSpec& spec, std::span<const float> x, std::span<std::uint8_t> codes,
                 std::span<float> scales, std::span<std::uint8_t> zero_points) noexcept;

// x[c] = scale * (code - zero_point), for the shapes of QuantizeRow.
void DequantizeRow(const IntegerSpec& spec, std::span<const std::uint8_t> codes,
                   std::span<const float> scales, std::span<const std::uint8_t> zero_points,
                   std::span<float> x) noexcept;

// Two 4-bit codes in a byte, the first in the low nibble; an odd count leaves a high nibble of 0.
// Shapes    codes: [n], each below 16; packed: [(n + 1) / 2].
void PackNibbles(std::span<const std::uint8_t> codes, std::span<std::byte> packed) noexcept;
void UnpackNibbles(std::span<const std::byte> packed, std::span<std::uint8_t> codes) noexcept;

}  // namespace phiq
