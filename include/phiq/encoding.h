// How a tensor is stored: GGUF's blocks, plain floats, or codes with scales beside them. All that a
// decoder needs, and nothing of how codes were chosen (phiq/quantize.h).
// One vocabulary for plans, writers, readers and error tables of all formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "phiq/ggml_type.h"

namespace phiq {

enum class FloatType : std::uint8_t { kF32, kF16, kBF16 };

// x = scale * (code - zero point), with a scale for each group.
struct IntegerSpec {
  int bits = 8;                            // 4 or 8
  bool symmetric = true;                   // zero point 2^(bits-1); else one for each group
  std::size_t group_size = 0;              // weights that share a scale; 0: the whole row
  FloatType float_type = FloatType::kF32;  // of the scales

  bool operator==(const IntegerSpec&) const = default;
};

// Whether zero points are stored, beside codes and scales.
constexpr bool HasZeroPoints(const IntegerSpec& spec) noexcept { return !spec.symmetric; }

// Groups in a row. The last one is shorter when group_size does not divide n.
std::size_t GroupCount(const IntegerSpec& spec, std::size_t n) noexcept;

// Integer codes in one array, their scales in a second and, if HasZeroPoints, their zero points in
// a third.
//
// Layout    codes: each row is padded with zero bits to whole groups; 4-bit codes two in a byte,
//           the first in the low nibble. scales: [rows, GroupCount] of spec.float_type.
//           zero_points: stored as the codes are, each row padded to a whole byte (an unused high
//           nibble stands for 8: bits 1000, or 0000 when signed).
struct IntegerEncoding {
  IntegerSpec spec;
  bool signed_codes = false;  // two's complement: code - 2^(bits-1)

  bool operator==(const IntegerEncoding&) const = default;
};

enum class MlxMode : std::uint8_t { kAffine, kMxfp4, kMxfp8, kNvfp4 };
std::string_view MlxModeName(MlxMode mode) noexcept;  // "affine", as config.json has it

// Integer or float codes of a row in one array, the scales of its groups in a second and, in
// MlxMode::kAffine, their biases in a third.
//
// Layout    codes: one stream of bits for each row, code c at bits [c * bits, (c + 1) * bits), the
//           lowest bit of a byte first; read as little-endian 32-bit words. scales, biases:
//           n / group_size values of float_type; of the small-float modes one byte a group, a power
//           of two (E8M0) or, kNvfp4, an E4M3 float.
struct MlxEncoding {
  MlxMode mode = MlxMode::kAffine;
  int bits = 4;                             // kAffine: 2, 3, 4, 5, 6 or 8; others as the mode says
  std::size_t group_size = 64;              // kAffine: 32, 64 or 128; others as the mode says
  FloatType float_type = FloatType::kBF16;  // weights are rounded to it before they are quantized

  bool operator==(const MlxEncoding&) const = default;
};

// The one encoding of a small-float mode: bits and group_size are what MLX allows.
MlxEncoding MlxFloatEncoding(MlxMode mode, FloatType float_type) noexcept;

// F32, F16 and BF16 are GgmlTypes in every format: little-endian floats are the same everywhere.
using Encoding = std::variant<GgmlType, IntegerEncoding, MlxEncoding>;

inline constexpr std::size_t kMaxArrays = 3;

// "Q4_K", "F16", "int4 g32", "int8 g32 asym" (with zero points), "int8 row", "affine4 g64",
// "mxfp4".
std::string EncodingName(const Encoding& encoding);

// 1 for GGUF blocks and floats; 2 or 3 (codes, scales, then zero points if HasZeroPoints, or MLX's
// biases).
std::size_t ArrayCount(const Encoding& encoding) noexcept;
// Bytes that a row of n weights takes in array `array` of the encoding.
std::size_t ArrayRowBytes(const Encoding& encoding, std::size_t array, std::size_t n) noexcept;
// The sum over the arrays.
std::size_t EncodedRowBytes(const Encoding& encoding, std::size_t n) noexcept;

// True for F16 and for scales of that type: weights of 65520 and above become Inf.
bool HasHalfRange(const Encoding& encoding) noexcept;
// True when weights come back exactly as they were in float32.
inline bool IsExact(const Encoding& encoding) noexcept {
  return encoding == Encoding(GgmlType::kF32);
}

// Decodes rows; owns the scratch memory, so one a thread.
class RowCodec {
 public:
  // Shapes    x: [n]; arrays: ArrayCount spans of ArrayRowBytes(encoding, i, n) bytes.
  // Requires  n a multiple of the block size for GGUF's blocks, and of the group size for MLX's
  //           groups.
  // Any bytes are allowed; NaN and Inf scales give NaN or Inf weights.
  void Decode(const Encoding& encoding, std::span<const std::span<const std::byte>> arrays,
              std::span<float> x);

 private:
  std::vector<std::uint8_t> codes_, zero_points_;
};

// Index, in the row, of the first weight of the first block or group whose scale or min (of floats:
// whose value) is NaN or Inf; nullopt when all are finite.
std::optional<std::size_t> FindNonFinite(const Encoding& encoding,
                                         std::span<const std::span<const std::byte>> arrays,
                                         std::size_t n) noexcept;

// What an encoding may cost, for verifying that codes and weights belong together. It holds for
// every method: a decoder cannot know which chose the codes.
struct ErrorBound {
  double relative_rmse = 0;    // of a whole tensor; about twice what Gaussian weights give
  double block_error = 0;      // largest error of a weight as a share of its block's largest weight
  double slack = 0;            // absolute: what scales below the normal range may be off
  std::size_t block_size = 1;  // weights of a block; the last of a row may be shorter
};
// `n`  weights in a row (for groups that span it).
ErrorBound BoundOf(const Encoding& encoding, std::size_t n) noexcept;

}  // namespace phiq
