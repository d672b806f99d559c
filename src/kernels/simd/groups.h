// Vector kernels of groups with a scale each, chosen for the processor at run time. Each gives the
// codes, scales and zero points of the plain loops (kernels/integer_methods.h, mlx_groups.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/integer_methods.h"
#include "kernels/simd/weights.h"

namespace phiq::simd {

// Where a kernel writes.
struct GroupArrays {
  // Packed, one group behind the other: PackedBytes(bits, group_size) bytes each.
  std::byte* codes = nullptr;
  float* scales = nullptr;              // [n_groups], values of the spec's type
  std::uint8_t* zero_points = nullptr;  // [n_groups]
  float* biases = nullptr;              // [n_groups]: MLX's groups, instead of zero points
};

// Whole groups, one behind the other.
//
// Shapes    x: [n_groups * group_size].
// Sizes     group_size a multiple of 16; for Rtn and KQuant at most 256. 4 or 8 bits.
// Returns   false, and nothing is written, where there is no kernel for the processor, or
//           (EncodeNearest) for scales that may be 0.
// Requires  every weight finite.
// Threads   pure.
using GroupKernel = bool (*)(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                             std::size_t n_groups, const GroupArrays& out);
bool EncodeNearest(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                   std::size_t n_groups, const GroupArrays& out);
bool EncodeMlas(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                std::size_t n_groups, const GroupArrays& out);
bool EncodeGather(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const GroupArrays& out);
bool EncodeNncf(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                std::size_t n_groups, const GroupArrays& out);
bool EncodeMinMax(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const GroupArrays& out);
bool EncodeRtn(const GroupSpec& spec, std::size_t group_size, const Weights& x,
               std::size_t n_groups, const GroupArrays& out);
bool EncodeKQuant(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const GroupArrays& out);

// Scales and biases before they are rounded to float_type, which weights are rounded to first.
// Sizes     group_size 32, 64 or 128; any bits of MLX's.
bool EncodeMlxAffine(int bits, bool as_metal, FloatType float_type, std::size_t group_size,
                     const Weights& x, std::size_t n_groups, const GroupArrays& out);

// kMxfp4, kMxfp8 and kNvfp4. Scales are values of the encoding's type, or NaN; weights are rounded
// to `type` first. out.zero_points and out.biases are null.
bool EncodeMlxFloats(const GroupEncoding& groups, FloatType type, bool as_metal, const Weights& x,
                     std::size_t n_groups, const GroupArrays& out);

}  // namespace phiq::simd
