// Integer quantization of weight rows with a scale (and zero point) for each group: the arithmetic
// below the integer formats. GGUF's own blocks are in ggml_type.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace phiq {

enum class FloatType : std::uint8_t { kF32, kF16, kBF16 };  // kBF16: only in MLX's groups

// How codes and scales are chosen. What they mean when decoding is the same for all.
enum class IntegerMethod : std::uint8_t {
  kNearest,  // code 0 of the symmetric scheme stays unused; ties to even
  kMlas,     // onnxruntime's MLAS block quantizer, what its model builder calls "default"
  kRtn,      // onnxruntime's "rtn"
  kKQuant,   // onnxruntime's "k_quant", a search; always with zero points
  kGather,   // onnxruntime's quantizer of embeddings (GatherBlockQuantized)
  kNncf,     // NNCF's INT4 and INT8 modes, what OpenVINO models have
};

struct IntegerSpec {
  int bits = 8;                // 4 or 8
  bool symmetric = true;       // zero point in the middle of the codes; else one for each group
  std::size_t group_size = 0;  // weights that share a scale; 0: the whole row
  IntegerMethod method = IntegerMethod::kNearest;
  // Scales are values of this type, and weights are rounded to it first (kNncf: only the stored
  // scale is rounded; kNearest: kF32 only).
  FloatType float_type = FloatType::kF32;

  bool operator==(const IntegerSpec&) const = default;
};

// Whether zero points are stored, beside codes and scales.
constexpr bool HasZeroPoints(const IntegerSpec& spec) noexcept {
  return !spec.symmetric || spec.method == IntegerMethod::kKQuant;
}

// Groups in a row. The last one is shorter when group_size does not divide n.
std::size_t GroupCount(const IntegerSpec& spec, std::size_t n) noexcept;

// Quantizes one weight row:  x[c] ~= scale * (code - zero_point).
//
// Shapes    x, codes: [n], n >= 1; scales, zero_points: [GroupCount(spec, n)].
// Codes     unsigned for both schemes: 0 ... 2^bits - 1.
//           Symmetric: zero_point = 2^(bits-1) always (kKQuant chooses its own). For signed storage
//           subtract 2^(bits-1) (in two's complement: flip the top bit).
//           Affine: zero_point is an integer code, so a weight of 0 decodes to exactly 0.
// Threads   pure; rows may run at once. Allocates nothing.
//
// kMlas, kRtn, kKQuant, kGather: bit for bit what onnxruntime's own quantizers store; formulas in
// docs/quantization.md "onnxruntime's integer blocks".
//
// Sizes     group_size 16 ... 256, for kKQuant a multiple of 16.
// Scale     may be negative. With kF16, weights of 65520 and above make it Inf (kRtn: 32760 and a
//           range of twice that): look for that afterwards (RowCodec, FindNonFinite).
// Edges     no float is undefined behaviour. Groups whose scale is below 2^-126 or so decode to
//           something as small as they are, as they do in onnxruntime.
// Requires  every x finite.
// Error     BoundOf in phiq/encoding.h.
//
// kNncf: bit for bit what NNCF stores; formulas in docs/quantization.md "NNCF's integer groups".
//
// Sizes     any group_size, and 0.
// Scale     never 0: at least 2^-23 in magnitude. Symmetric: negative when the largest magnitude is
//           positive, so that it is always the lowest code. Codes are computed with the float32
//           scale, which only then becomes a half: Inf from 65520 on.
// Edges     no float is undefined behaviour. Groups of less than 2^-23 or so decode to something as
//           small as they are.
// Requires  every x finite.
// Error     BoundOf in phiq/encoding.h.
//
// kNearest:
//
// Codes     symmetric: code - zero_point runs from -qmax to qmax = 2^(bits-1) - 1.
// Scale     symmetric: max|x| / qmax; affine: (max(x, 0) - min(x, 0)) / (2^bits - 1).
//           Codes are computed with this float; ties round to even.
// Edges     a group with max|x| < 1e-15 decodes to zeros: scale 0, codes equal to zero_point
//           (affine: both 0).
// Requires  every x finite and below 1e38 (a decoded end may lie one step outside the data).
// Error     |x - decoded| <= scale / 2 (plus float rounding, 1e-6 * max|x|); affine: up to one
//           scale at the two ends of the range, where the zero point's own rounding shows;
//           1e-15 in a zero group.
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
