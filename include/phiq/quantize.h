// Which codes stand for some weights. A method fills an encoding; it never asks for which format.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "phiq/encoding.h"

namespace phiq {

// Rows of weights, one behind the other: little-endian numbers of one type, as a checkpoint has
// them.
struct RawRows {
  FloatType type = FloatType::kF32;
  std::span<const std::byte> bytes;

  RawRows() = default;
  RawRows(FloatType type_of_bytes, std::span<const std::byte> rows) noexcept
      : type(type_of_bytes), bytes(rows) {}
  // Floats in memory are such rows.
  template <std::convertible_to<std::span<const float>> Floats>
  RawRows(const Floats& floats) noexcept  // NOLINT(google-explicit-constructor)
      : bytes(std::as_bytes(std::span<const float>(floats))) {}

  std::size_t size() const noexcept {
    return bytes.size() / (type == FloatType::kF32 ? sizeof(float) : sizeof(std::uint16_t));
  }
};

// What the inputs of some columns have in common: of their second moments H, made well-behaved
// (calibrate/factor.h), the upper triangular U with inverse(H) = transposed(U) * U.
struct FactorBlock {
  std::size_t first_column = 0, n = 0;
  std::span<const float> u;  // [n, n], row by row; what is below the diagonal is not looked at
};
// What is known of the vectors that a weight is multiplied with.
struct InputStats {
  std::span<const float> squares = {};  // [n]: mean square of each column's input
  // Blocks one behind the other that cover all columns; correlations between them count as 0.
  // Each but the first begins at a multiple of 256 columns. Empty: not known.
  std::span<const FactorBlock> factor = {};
};
// What of it a method must be given; the rest it does not look at. kMoments: both.
enum class Needs : std::uint8_t { kNothing, kSquares, kMoments };

// A way to choose codes. Static objects; two methods are the same when their addresses are.
struct Method {
  std::string_view name;  // "mlas"

  // What weights become before anything else. (The methods of onnxruntime round them to the type
  // of the encoding's scales, which is not said here.)
  FloatType weights = FloatType::kF32;

  Needs needs = Needs::kNothing;

  // Whether the method can make codes for this encoding.
  bool (*fills)(const Encoding& encoding) noexcept;

  // Quantizes rows, one behind the other.
  //
  // Shapes    x: [n_rows, n], floats of any type; arrays: ArrayCount spans of
  //           n_rows * ArrayRowBytes(encoding, i, n) bytes.
  // Requires  fills(encoding); what it needs of stats, finite, not negative and below 1e30; every
  //           x finite; n a multiple of the block size for GGUF's blocks, and of the group size for
  //           MlxMethod's groups.
  // Edges     no float is undefined behaviour. Scales may become Inf or NaN where the encoding
  //           cannot hold them: ask FindNonFinite afterwards.
  // Threads   pure; rows may run at once.
  // Error     BoundOf in phiq/encoding.h.
  void (*quantize)(const Encoding& encoding, const RawRows& x, std::size_t n,
                   const InputStats& stats, std::span<const std::span<std::byte>> arrays);
};

// GGUF's blocks and plain floats, bit for bit as llama-quantize does without an importance matrix.
// Source    docs/quantization.md.
extern const Method kGgml;

// Any encoding but floats: scales (and zero points, biases, mins) searched for the least squared
// error of the weights, of what the stored scales give; each code is the nearest.
// Scale     may be negative where the encoding does not say otherwise. Inf or NaN where it cannot
//           hold the group.
// Source    docs/quantization.md "Searched scales".
extern const Method kSearch;
// The same with errors weighted by the mean squares of the columns' inputs; columns of less than
// 1e-4 of the mean count as much. GGUF's blocks: bit for bit what llama-quantize stores with them
// as its importance matrix, which weights by them and by the weights' own sizes (Q8_0 ignores
// them).
extern const Method kImatrix;

// Error feedback: columns are rounded one after the other, and what each loses is made up for by
// those behind it, as far as their inputs go together. What becomes least is not the error of the
// weights but that of the products with such inputs. Any encoding but floats; scales are those of
// kSearch with the weights of kImatrix (in GGUF's blocks, too), chosen when it is a group's turn.
//
// Requires  besides: diagonals of the factor above 0, and finite.
// Memory    rows are worked on up to kFeedbackRows at a time, best that many; each takes 8 bytes a
//           column (groups of 16: 10) and 2 KiB.
// Source    docs/quantization.md "Error feedback"; Frantar et al. 2022, arXiv 2210.17323.
inline constexpr std::size_t kFeedbackRows = 128;
extern const Method kFeedback;

// The others choose codes with a scale (and a zero point) for each group. Formulas, and what they
// have of whom: docs/quantization.md.
//
// phiq's own rounding to nearest; groups of any size; float32 scales, or positive halves.
// Codes     symmetric: code - zero point runs from -qmax to qmax = 2^(bits-1) - 1.
// Scale     symmetric: max|x| / qmax; with zero points: (max(x, 0) - min(x, 0)) / (2^bits - 1).
//           Codes are computed with the scale as it is stored; ties round to even. A half is at
//           least 2^-24, and Inf where the largest weight asks for it.
// Edges     a group with max|x| < 1e-15 decodes to zeros: scale 0 (positive scales: 1), codes equal
//           to the zero point.
// Requires  every x below 1e38 (a decoded end may lie one step outside the data).
// Error     |x - decoded| <= scale / 2 (plus float rounding, 1e-6 * max|x|); with zero points: up
//           to one scale at the two ends of the range, where the zero point's own rounding shows;
//           1e-15 in a zero group. Scales in halves: besides what rounding them costs at the
//           largest weight, 2^-11 of it.
// Source    Jacob et al. 2018, eq. 1.
extern const Method kNearest;

// Bit for bit what onnxruntime's own quantizers store, for groups of 16 to 256 and scales of F32
// and F16: its MLAS block quantizer (what its model builder calls "default"), "rtn", "k_quant" (a
// search; always with zero points, groups of multiples of 16) and its quantizer of embeddings.
// Scale     may be negative. With halves, weights of 65520 and above make it Inf (kRtn: 32760 and a
//           range of twice that).
// Edges     weights are rounded to the type of the scales first. Groups whose scale is below 2^-126
//           or so decode to something as small as they are, as they do in onnxruntime.
extern const Method kMlas, kRtn, kKQuant, kGather;

// Bit for bit what NNCF stores in its INT4 and INT8 modes, for groups of any size and whole rows.
// Scale     never 0: at least 2^-23 in magnitude. Symmetric: negative when the largest magnitude is
//           positive, so that it is always the lowest code. Codes are computed with the float32
//           scale, which only then becomes a half: Inf from 65520 on.
// Edges     groups of less than 2^-23 or so decode to something as small as they are.
extern const Method kNncf;

// Bit for bit what llm-compressor stores (its observer "memoryless_minmax"), for groups of any size
// and whole rows. Weights are rounded to the type of the scales first, and so is every quotient.
// Scale     never 0: of a group of zeros the type's epsilon.
// Source    docs/quantization.md "llm-compressor's integer groups".
extern const Method kMinMax;

// Whose roundings an encoder of MLX's groups follows; files of both load everywhere.
enum class MlxRounding : std::uint8_t {
  kCpu,    // MLX's CPU back end
  kMetal,  // its Metal kernels
};

// Bit for bit what mx.quantize stores (of mlx 0.32.4) of weights of a type: codes of 2, 3, 4, 5, 6
// and 8 bits in groups of 32, 64 and 128 with scales and biases of that type, and kMxfp4, kMxfp8
// and kNvfp4. Scale     may be negative (with biases). Inf or NaN where the weights' type cannot
// hold the group,
//           and where E4M3 cannot hold the scale (kNvfp4: weights above 6 * 464, which MLX clips).
//           E8M0's are not below 2^-127 (kCpu: MLX's wrap around in groups of less than 1e-37 or
//           so).
const Method& MlxMethod(MlxRounding rounding, FloatType weights) noexcept;

}  // namespace phiq
