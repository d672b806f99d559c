// One group of weights to codes, by each of the methods that make integer groups (phiq/quantize.h).
// The room quantize cuts rows into groups and calls these.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/rounding.h"
#include "phiq/encoding.h"

namespace phiq {

// onnxruntime's block sizes are 16, 32, 64, 128 and 256.
inline constexpr std::size_t kMaxGroupSize = 256;

// A group whose largest weight is below this counts as zero: QuantizeNearest's.
inline constexpr float kNearestNegligible = 1e-15F;

// What a group's codes and its scale may be.
struct GroupSpec {
  int bits = 8;           // 4 or 8
  bool symmetric = true;  // zero point in the middle of the codes; else chosen for the group
  ScaleType scale = ScaleType::kF32;  // kF32 or kF16; of QuantizeMinMax kBF16, too
  bool positive_scales = false;       // see GroupEncoding; of QuantizeNearest
};

struct GroupScale {
  float scale;
  std::uint8_t zero_point;
};

// Shapes    x: [group_size], values of spec.scale (QuantizeNncf: any); codes: as x.
//           QuantizeMinMax: any, which it rounds to spec.scale.
//           QuantizeRtn and QuantizeKQuant want a short last group padded with zeros, as
//           onnxruntime does.
// Returns   a scale that is a value of spec.scale, and a zero point: 2^(bits-1) of symmetric
//           groups.
// Codes     unsigned: 0 ... 2^bits - 1. With zero points one of them decodes to exactly 0.
// Source    docs/quantization.md "Integer groups", "onnxruntime's integer blocks", "NNCF's
//           integer groups" and "llm-compressor's integer groups".
GroupScale QuantizeNearest(const GroupSpec& spec, std::span<const float> x,
                           std::span<std::uint8_t> codes) noexcept;
GroupScale QuantizeMlas(const GroupSpec& spec, std::span<const float> x,
                        std::span<std::uint8_t> codes) noexcept;
GroupScale QuantizeRtn(const GroupSpec& spec, std::span<const float> x,
                       std::span<std::uint8_t> codes) noexcept;
GroupScale QuantizeKQuant(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept;
GroupScale QuantizeGather(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept;
GroupScale QuantizeNncf(const GroupSpec& spec, std::span<const float> x,
                        std::span<std::uint8_t> codes) noexcept;
GroupScale QuantizeMinMax(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept;

inline int MiddleCode(const GroupSpec& spec) noexcept { return 1 << (spec.bits - 1); }
inline int LastCode(const GroupSpec& spec) noexcept { return (1 << spec.bits) - 1; }

template <typename Real>
float RoundTo(ScaleType type, Real x) noexcept {
  if (type == ScaleType::kF16) return RoundToHalf(x);
  return type == ScaleType::kBF16 ? RoundToBf16(static_cast<float>(x)) : static_cast<float>(x);
}

struct Range {
  float low;
  float high;
};

// Smallest and largest weight. Compared as integers, which GCC turns into SIMD; it does not dare to
// with floats. Of zeros of both signs, low is -0 and high +0. Requires finite or infinite x.
inline Range RangeOf(std::span<const float> x) noexcept {
  // Two's complement in the order of the floats; its own inverse.
  const auto ordered = [](std::int32_t bits) { return bits ^ ((bits >> 31) & 0x7FFFFFFF); };
  std::int32_t low = ordered(std::bit_cast<std::int32_t>(x[0]));
  std::int32_t high = low;
  for (const float v : x) {
    const std::int32_t bits = ordered(std::bit_cast<std::int32_t>(v));
    low = std::min(low, bits);
    high = std::max(high, bits);
  }
  return {std::bit_cast<float>(ordered(low)), std::bit_cast<float>(ordered(high))};
}

// The weight of largest magnitude with its sign; the negative one of a pair +m, -m. Of zeros the
// first, whose sign the scale then shows.
inline float ExtremeOf(std::span<const float> x) noexcept {
  const Range range = RangeOf(x);
  if (range.low == 0.0F && range.high == 0.0F) return x[0];
  return std::abs(range.high) > std::abs(range.low) ? range.high : range.low;
}

}  // namespace phiq
