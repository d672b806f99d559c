// Rows to MLX's groups and back; the arithmetic of a group is in the files of mlx_groups.h.
#include "phiq/mlx_quantize.h"

#include <cassert>

#include "kernels/float_type.h"
#include "kernels/mlx_bits.h"
#include "kernels/mlx_groups.h"
#include "kernels/rounding.h"

namespace phiq {
namespace {

[[maybe_unused]] bool IsValid(const MlxEncoding& encoding) noexcept {
  if (encoding.mode != MlxMode::kAffine)
    return encoding == MlxFloatEncoding(encoding.mode, encoding.float_type, encoding.rounding);
  const bool has_bits = encoding.bits == 8 || (encoding.bits >= 2 && encoding.bits <= 6);
  return has_bits &&
         (encoding.group_size == 32 || encoding.group_size == 64 || encoding.group_size == 128);
}

[[maybe_unused]] bool HaveShapesOf(const MlxEncoding& encoding, std::size_t n,
                                   std::size_t codes_bytes, std::size_t scales_bytes,
                                   std::size_t biases_bytes) noexcept {
  const bool is_affine = encoding.mode == MlxMode::kAffine;
  const std::size_t n_groups = n / encoding.group_size;
  const std::size_t scale_bytes = is_affine ? FloatBytes(encoding.float_type) : 1;
  return n % encoding.group_size == 0 &&
         codes_bytes == n / 8 * static_cast<std::size_t>(encoding.bits) &&
         scales_bytes == n_groups * scale_bytes && biases_bytes == (is_affine ? scales_bytes : 0);
}

template <typename Round>
void RoundEach(std::span<const float> x, float* __restrict out, Round round) noexcept {
  const float* __restrict in = x.data();
  for (std::size_t c = 0; c < x.size(); ++c) out[c] = round(in[c]);
}

// x as values of `type`; in `rounded` unless x is that already.
std::span<const float> RoundWeights(FloatType type, std::span<const float> x,
                                    std::span<float> rounded) noexcept {
  if (type == FloatType::kF32) return x;
  if (type == FloatType::kF16) {
    RoundEach(x, rounded.data(), [](float v) { return RoundToHalf(v); });
  } else {
    RoundEach(x, rounded.data(), [](float v) { return RoundToBf16(v); });
  }
  return rounded.first(x.size());
}

}  // namespace

std::string_view MlxModeName(MlxMode mode) noexcept {
  switch (mode) {
    case MlxMode::kAffine:
      return "affine";
    case MlxMode::kMxfp4:
      return "mxfp4";
    case MlxMode::kMxfp8:
      return "mxfp8";
    case MlxMode::kNvfp4:
      return "nvfp4";
  }
  return "";
}

MlxEncoding MlxFloatEncoding(MlxMode mode, FloatType float_type, MlxRounding rounding) noexcept {
  assert(mode != MlxMode::kAffine);
  return {.mode = mode,
          .bits = mode == MlxMode::kMxfp8 ? 8 : 4,
          .group_size = mode == MlxMode::kNvfp4 ? std::size_t{16} : std::size_t{32},
          .float_type = float_type,
          .rounding = rounding};
}

void QuantizeMlxRow(const MlxEncoding& encoding, std::span<const float> x,
                    std::span<std::byte> codes, std::span<std::byte> scales,
                    std::span<std::byte> biases) noexcept {
  assert(IsValid(encoding));
  assert(HaveShapesOf(encoding, x.size(), codes.size(), scales.size(), biases.size()));
  const std::size_t group_size = encoding.group_size;
  const std::size_t packed_bytes = group_size / 8 * static_cast<std::size_t>(encoding.bits);
  float rounded[kMaxMlxGroupSize];
  std::uint8_t group_codes[kMaxMlxGroupSize];
  const std::span<std::uint8_t> q(group_codes, group_size);
  for (std::size_t g = 0; g < x.size() / group_size; ++g) {
    const std::span<const float> group =
        RoundWeights(encoding.float_type, x.subspan(g * group_size, group_size), rounded);
    if (encoding.mode == MlxMode::kAffine) {
      const MlxScale scale = QuantizeMlxAffine(encoding.bits, encoding.rounding, group, q);
      StoreFloat(encoding.float_type, scale.scale, scales, g);
      StoreFloat(encoding.float_type, scale.bias, biases, g);
    } else {
      scales[g] = std::byte{QuantizeMlxFloats(encoding, group, q)};
    }
    PackBits(encoding.bits, q, codes.subspan(g * packed_bytes, packed_bytes));
  }
}

void DequantizeMlxRow(const MlxEncoding& encoding, std::span<const std::byte> codes,
                      std::span<const std::byte> scales, std::span<const std::byte> biases,
                      std::span<float> x) noexcept {
  assert(IsValid(encoding));
  assert(HaveShapesOf(encoding, x.size(), codes.size(), scales.size(), biases.size()));
  const std::size_t group_size = encoding.group_size;
  const std::size_t packed_bytes = group_size / 8 * static_cast<std::size_t>(encoding.bits);
  std::uint8_t group_codes[kMaxMlxGroupSize];
  const std::span<std::uint8_t> q(group_codes, group_size);
  for (std::size_t g = 0; g < x.size() / group_size; ++g) {
    UnpackBits(encoding.bits, codes.subspan(g * packed_bytes, packed_bytes), q);
    const std::span<float> out = x.subspan(g * group_size, group_size);
    if (encoding.mode != MlxMode::kAffine) {
      DequantizeMlxFloats(encoding.mode, std::to_integer<std::uint8_t>(scales[g]), q, out);
      continue;
    }
    const float scale = LoadFloat(encoding.float_type, scales, g);
    const float bias = LoadFloat(encoding.float_type, biases, g);
    for (std::size_t c = 0; c < group_size; ++c) out[c] = scale * static_cast<float>(q[c]) + bias;
  }
}

}  // namespace phiq
