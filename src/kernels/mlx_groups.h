// One group of weights to MLX's codes. The room quantize cuts rows into groups, rounds
// their weights to MLX's type and calls these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "phiq/encoding.h"

namespace phiq {

inline constexpr std::size_t kMaxMlxGroupSize = 128;

struct MlxScale {
  float scale;
  float bias;
};

// `as_metal`  rounds as MLX's Metal kernels do, else as its CPU back end does.
// Shapes    x, codes: [group_size].
// Returns   float32 values, which the caller rounds: codes are computed before that.
MlxScale QuantizeMlxAffine(int bits, bool as_metal, std::span<const float> x,
                           std::span<std::uint8_t> codes) noexcept;

// `groups`  kMxfp4, kMxfp8 or kNvfp4.
// `type`    that the weights were rounded to.
// Returns   the byte of the scale.
std::uint8_t QuantizeMlxFloats(const GroupEncoding& groups, FloatType type, bool as_metal,
                               std::span<const float> x, std::span<std::uint8_t> codes) noexcept;

}  // namespace phiq
