// What mx.quantize stores. The arithmetic of a group is in the kernels; here rows are cut into
// groups, and weights rounded to the type that MLX casts them to.
#include "kernels/mlx_groups.h"

#include <cassert>

#include "kernels/bits.h"
#include "kernels/float_type.h"
#include "kernels/rounding.h"
#include "phiq/quantize.h"

namespace phiq {
namespace {

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

bool IsMlxEncoding(const Encoding& encoding) noexcept {
  return std::holds_alternative<MlxEncoding>(encoding);
}

// Groups follow one another from row to row.
template <bool kAsMetal>
void QuantizeRows(const Encoding& encoding, std::span<const float> x,
                  [[maybe_unused]] std::size_t n, std::span<const std::span<std::byte>> arrays) {
  const MlxEncoding& mlx = std::get<MlxEncoding>(encoding);
  const std::size_t group_size = mlx.group_size;
  assert(n % group_size == 0 && group_size <= kMaxMlxGroupSize);
  const std::size_t packed_bytes = PackedBytes(mlx.bits, group_size);
  float rounded[kMaxMlxGroupSize];
  std::uint8_t group_codes[kMaxMlxGroupSize];
  const std::span<std::uint8_t> q(group_codes, group_size);
  for (std::size_t g = 0; g < x.size() / group_size; ++g) {
    const std::span<const float> group =
        RoundWeights(mlx.float_type, x.subspan(g * group_size, group_size), rounded);
    if (mlx.mode == MlxMode::kAffine) {
      const MlxScale scale = QuantizeMlxAffine(mlx.bits, kAsMetal, group, q);
      StoreFloat(mlx.float_type, scale.scale, arrays[1], g);
      StoreFloat(mlx.float_type, scale.bias, arrays[2], g);
    } else {
      arrays[1][g] = std::byte{QuantizeMlxFloats(mlx.mode, mlx.float_type, kAsMetal, group, q)};
    }
    PackBits(mlx.bits, q, arrays[0].subspan(g * packed_bytes, packed_bytes));
  }
}

constinit const Method kMlxCpu = {"mlx", IsMlxEncoding, QuantizeRows<false>};
constinit const Method kMlxMetal = {"mlx-metal", IsMlxEncoding, QuantizeRows<true>};

}  // namespace

const Method& MlxMethod(MlxRounding rounding) noexcept {
  return rounding == MlxRounding::kMetal ? kMlxMetal : kMlxCpu;
}

}  // namespace phiq
