// How a tensor is stored: GGUF's blocks, plain floats, or codes with scales beside them.
// One vocabulary for plans, writers, readers and error tables of all formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "phiq/ggml_type.h"
#include "phiq/mlx_quantize.h"
#include "phiq/quantize.h"

namespace phiq {

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

// F32, F16 and BF16 are GgmlTypes in every format: little-endian floats are the same everywhere.
using Encoding = std::variant<GgmlType, IntegerEncoding, MlxEncoding>;

inline constexpr std::size_t kMaxArrays = 3;

// "Q4_K", "F16", "int4 g32", "int8 g32 asym", "int8 row", "affine4 g64", "mxfp4". The method is not
// part of it: it does not matter to a decoder, which only sees whether there are zero points
// ("asym").
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

// Encodes and decodes rows; owns the scratch memory, so one a thread.
class RowCodec {
 public:
  // Shapes    x: [n]; arrays: ArrayCount spans of ArrayRowBytes(encoding, i, n) bytes.
  // Requires  every x finite; n a multiple of the block size for GGUF's blocks, and of the group
  // size
  //           for MLX's groups.
  void Encode(const Encoding& encoding, std::span<const float> x,
              std::span<const std::span<std::byte>> arrays);
  // Any bytes are allowed; NaN and Inf scales give NaN or Inf weights.
  void Decode(const Encoding& encoding, std::span<const std::span<const std::byte>> arrays,
              std::span<float> x);

 private:
  std::vector<float> scales_;
  std::vector<std::uint8_t> codes_, zero_points_;
};

// Index, in the row, of the first weight of the first block or group whose scale or min (of floats:
// whose value) is NaN or Inf; nullopt when all are finite.
std::optional<std::size_t> FindNonFinite(const Encoding& encoding,
                                         std::span<const std::span<const std::byte>> arrays,
                                         std::size_t n) noexcept;

// What an encoding may cost, for verifying that codes and weights belong together. It does not ask
// for the method of an IntegerSpec: a decoder cannot know it.
struct ErrorBound {
  double relative_rmse = 0;    // of a whole tensor; about twice what Gaussian weights give
  double block_error = 0;      // largest error of a weight as a share of its block's largest weight
  double slack = 0;            // absolute: what scales below the normal range may be off
  std::size_t block_size = 1;  // weights of a block; the last of a row may be shorter
};
// `n`  weights in a row (for groups that span it).
ErrorBound BoundOf(const Encoding& encoding, std::size_t n) noexcept;

}  // namespace phiq
