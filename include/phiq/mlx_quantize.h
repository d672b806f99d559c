// MLX's group quantization: integer codes with a float scale and bias for each group, and small
// floats with a shared scale. The arithmetic below MLX folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "phiq/quantize.h"

namespace phiq {

enum class MlxMode : std::uint8_t { kAffine, kMxfp4, kMxfp8, kNvfp4 };
std::string_view MlxModeName(MlxMode mode) noexcept;  // "affine", as config.json has it

// Whose roundings an encoder follows; files of both load everywhere.
enum class MlxRounding : std::uint8_t {
  kCpu,    // MLX's CPU back end
  kMetal,  // its Metal kernels
};

// Integer or float codes of a row in one array, the scales of its groups in a second and, in
// MlxMode::kAffine, their biases in a third.
//
// Layout    codes: one stream of bits for each row, code c at bits [c * bits, (c + 1) * bits), the
//           lowest bit of a byte first; read as little-endian 32-bit words. scales, biases:
//           n / group_size values of float_type; of the small-float modes one byte a group, a power
//           of two (E8M0) or, kNvfp4, an E4M3 float.
struct MlxEncoding {
  MlxMode mode = MlxMode::kAffine;
  int bits = 4;                              // kAffine: 2, 3, 4, 5, 6 or 8; others as the mode says
  std::size_t group_size = 64;               // kAffine: 32, 64 or 128; others as the mode says
  FloatType float_type = FloatType::kBF16;   // weights are rounded to it before they are quantized
  MlxRounding rounding = MlxRounding::kCpu;  // means nothing to a decoder

  bool operator==(const MlxEncoding&) const = default;
};

// The one encoding of a small-float mode: bits and group_size are what MLX allows.
MlxEncoding MlxFloatEncoding(MlxMode mode, FloatType float_type, MlxRounding rounding) noexcept;

// Quantizes one weight row, bit for bit as mx.quantize does (of mlx 0.32.4).
//
// Shapes    x: [n], n a multiple of group_size and of 8; codes: n * bits / 8 bytes; scales, biases:
//           n / group_size values, biases empty unless kAffine.
// Scale     may be negative (kAffine). Inf or NaN where float_type cannot hold the group, and where
//           E4M3 cannot hold the scale (kNvfp4: weights above 6 * 464, which MLX clips). E8M0's are
//           not below 2^-127 (kCpu: MLX's wrap around in groups of less than 1e-37 or so).
// Requires  every x finite.
// Threads   pure; rows may run at once. Allocates nothing.
// Error     BoundOf in phiq/encoding.h.
// Source    docs/quantization.md "MLX's groups".
void QuantizeMlxRow(const MlxEncoding& encoding, std::span<const float> x,
                    std::span<std::byte> codes, std::span<std::byte> scales,
                    std::span<std::byte> biases) noexcept;

// kAffine: x[c] = scale * code + bias in float32, rounded after each step; others: the small float
// times its group's scale, which is exact. Any bytes are allowed.
void DequantizeMlxRow(const MlxEncoding& encoding, std::span<const std::byte> codes,
                      std::span<const std::byte> scales, std::span<const std::byte> biases,
                      std::span<float> x) noexcept;

}  // namespace phiq
