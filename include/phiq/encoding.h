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

// What stands for a weight: an integer, unsigned or in two's complement, or a small float.
//
// kE2M1    a sign above 3 bits of magnitude: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
// kE4M3    4 bits of exponent (bias 7), 3 of mantissa; no infinities, largest 448, 0x7F NaN.
enum class Code : std::uint8_t { kU2, kU3, kU4, kU5, kU6, kU8, kI4, kI8, kE2M1, kE4M3 };

// kE8M0: 2^(byte - 127), 255 NaN.
enum class ScaleType : std::uint8_t { kF32, kF16, kBF16, kE8M0, kE4M3 };

// What lies at 0.
enum class Offset : std::uint8_t {
  kNone,       // code 0:                     x = scale * code
  kMiddle,     // the middle code:            x = scale * (code - 2^(bits-1)); unsigned codes only
  kZeroPoint,  // a code stored for a group:  x = scale * (code - zero_point)
  kBias,       // a float stored for a group: x = scale * code + bias, rounded after each step
};

// Codes in groups that share a scale: what ONNX, OpenVINO and MLX store.
//
// Arrays    codes; the scales of their groups; with kZeroPoint or kBias a third.
// Layout    codes: one stream of bits for each row, code c at bits [c * bits, (c + 1) * bits), the
//           lowest bit of a byte first; zero bits fill a row's last group. scales, biases:
//           GroupCount values of the scale's type. zero_points: stored as the codes are, each row
//           filled to a whole byte with middle codes (4 bits: 1000, or 0000 when signed).
struct GroupEncoding {
  Code code = Code::kU4;
  std::size_t group_size = 32;  // weights that share a scale; 0: the whole row
  ScaleType scale = ScaleType::kF32;
  Offset offset = Offset::kMiddle;
  // Every scale is above 0, for kernels that take no others. Those of searches are normal numbers,
  // that of a group of zeros is 1, and 8-bit codes without a zero point are 127 to either side.
  bool positive_scales = false;

  bool operator==(const GroupEncoding&) const = default;
};

// The small floats of the OCP microscaling formats, and NVIDIA's.
inline constexpr GroupEncoding kMxfp4 = {Code::kE2M1, 32, ScaleType::kE8M0, Offset::kNone};
inline constexpr GroupEncoding kMxfp8 = {Code::kE4M3, 32, ScaleType::kE8M0, Offset::kNone};
inline constexpr GroupEncoding kNvfp4 = {Code::kE2M1, 16, ScaleType::kE4M3, Offset::kNone};

int BitsOf(Code code) noexcept;
constexpr bool IsFloat(Code code) noexcept { return code == Code::kE2M1 || code == Code::kE4M3; }
constexpr bool IsSigned(Code code) noexcept { return code == Code::kI4 || code == Code::kI8; }
// Requires  bits 2, 3, 4, 5, 6 or 8.
Code UnsignedCode(int bits) noexcept;
constexpr ScaleType ScaleTypeOf(FloatType type) noexcept { return static_cast<ScaleType>(type); }

constexpr bool HasZeroPoints(const GroupEncoding& groups) noexcept {
  return groups.offset == Offset::kZeroPoint;
}
// Groups in a row of n weights. The last one is shorter when group_size does not divide n.
constexpr std::size_t GroupCount(const GroupEncoding& groups, std::size_t n) noexcept {
  if (groups.group_size == 0) return 1;
  return n / groups.group_size + (n % groups.group_size != 0 ? 1 : 0);
}

// F32, F16 and BF16 are GgmlTypes in every format: little-endian floats are the same everywhere.
using Encoding = std::variant<GgmlType, GroupEncoding>;

inline constexpr std::size_t kMaxArrays = 3;

// "Q4_K", "F16", "int4 g32", "int8 g32 asym" (with zero points), "int8 row", "affine4 g64" (with
// biases), "mxfp4".
std::string EncodingName(const Encoding& encoding);

// 1 for GGUF blocks and floats; 2 or 3 for groups.
std::size_t ArrayCount(const Encoding& encoding) noexcept;
// Bytes that a row of n weights takes in array `array` of the encoding.
std::size_t ArrayRowBytes(const Encoding& encoding, std::size_t array, std::size_t n) noexcept;
// The sum over the arrays.
std::size_t EncodedRowBytes(const Encoding& encoding, std::size_t n) noexcept;

// True for F16 and for scales of that type: weights of 65520 and above may become Inf.
bool HasHalfRange(const Encoding& encoding) noexcept;
// True when weights come back exactly as they were in float32.
inline bool IsExact(const Encoding& encoding) noexcept {
  return encoding == Encoding(GgmlType::kF32);
}

// Decodes rows; owns the scratch memory, so one a thread.
class RowCodec {
 public:
  // Shapes    x: [n]; arrays: ArrayCount spans of ArrayRowBytes(encoding, i, n) bytes.
  // Requires  n a multiple of the block size for GGUF's blocks.
  // Any bytes are allowed; NaN and Inf scales give NaN or Inf weights.
  void Decode(const Encoding& encoding, std::span<const std::span<const std::byte>> arrays,
              std::span<float> x);

 private:
  std::vector<std::uint8_t> codes_, zero_points_;
  std::vector<float> scales_, biases_;
};

// Index, in the row, of the first weight of the first block or group whose scale or min (of floats:
// whose value) is NaN or Inf; nullopt when all are finite.
std::optional<std::size_t> FindNonFinite(const Encoding& encoding,
                                         std::span<const std::span<const std::byte>> arrays,
                                         std::size_t n) noexcept;

// What an encoding may cost, for verifying that codes and weights belong together. It holds for
// every method that keeps the largest weights: a decoder cannot know which chose the codes. A
// search (phiq/quantize.h) may clip them; its errors are at most the weight itself.
struct ErrorBound {
  double relative_rmse = 0;    // of a whole tensor; about twice what Gaussian weights give
  double block_error = 0;      // largest error of a weight as a share of its block's largest weight
  double slack = 0;            // absolute: what scales below the normal range may be off
  std::size_t block_size = 1;  // weights of a block; the last of a row may be shorter
};
// `n`  weights in a row (for groups that span it).
ErrorBound BoundOf(const Encoding& encoding, std::size_t n) noexcept;

}  // namespace phiq
