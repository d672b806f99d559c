// One group of weights to MLX's codes. The room quantize cuts rows into groups, rounds
// their weights to MLX's type and calls these.
#pragma once

#include <bit>
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

// The code of a magnitude in E2M1 is the number of borders below it. A magnitude on a border takes
// the code nearer to 0 on the CPU and the even one on Metal, where every second border is moved to
// the next lower float for that.
struct MlxBorders {
  float at[7];
};
constexpr float JustBelow(float x) noexcept {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) - 1);
}
inline constexpr MlxBorders kMlxCpuBorders = {{0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F}};
inline constexpr MlxBorders kMlxMetalBorders = {
    {0.25F, JustBelow(0.75F), 1.25F, JustBelow(1.75F), 2.5F, JustBelow(3.5F), 5.0F}};

// `groups`  kMxfp4, kMxfp8 or kNvfp4.
// `type`    that the weights were rounded to.
// Returns   the byte of the scale.
std::uint8_t QuantizeMlxFloats(const GroupEncoding& groups, FloatType type, bool as_metal,
                               std::span<const float> x, std::span<std::uint8_t> codes) noexcept;

}  // namespace phiq
