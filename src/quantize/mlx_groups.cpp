// What mx.quantize stores. The arithmetic of a group is in the kernels; here rows are cut into
// groups, and weights rounded to the type that MLX casts them to.
#include "kernels/mlx_groups.h"

#include <cassert>
#include <vector>

#include "kernels/bits.h"
#include "kernels/rounding.h"
#include "kernels/scale_type.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/groups.h"
#include "phiq/quantize.h"
#include "quantize/float_rows.h"

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

template <FloatType kWeights>
bool IsMlxEncoding(const Encoding& encoding) noexcept {
  const auto* groups = std::get_if<GroupEncoding>(&encoding);
  if (groups == nullptr) return false;
  if (IsFloat(groups->code)) return *groups == kMxfp4 || *groups == kMxfp8 || *groups == kNvfp4;
  const bool has_group_size =
      groups->group_size == 32 || groups->group_size == 64 || groups->group_size == 128;
  return !IsSigned(groups->code) && groups->offset == Offset::kBias &&
         groups->scale == ScaleTypeOf(kWeights) && has_group_size;
}

// The plain loops over the groups of a row, whose first is `first_group` of the arrays.
template <bool kAsMetal, FloatType kWeights>
void QuantizeByLoops(const GroupEncoding& groups, std::span<const float> x, std::size_t first_group,
                     std::span<const std::span<std::byte>> arrays) {
  const std::size_t group_size = groups.group_size;
  const int bits = BitsOf(groups.code);
  const std::size_t packed_bytes = PackedBytes(bits, group_size);
  float rounded[kMaxMlxGroupSize];
  std::uint8_t group_codes[kMaxMlxGroupSize];
  const std::span<std::uint8_t> q(group_codes, group_size);
  for (std::size_t begin = 0; begin < x.size(); begin += group_size) {
    const std::size_t g = first_group + begin / group_size;
    const std::span<const float> group =
        RoundWeights(kWeights, x.subspan(begin, group_size), rounded);
    if (groups.offset == Offset::kBias) {
      const MlxScale scale = QuantizeMlxAffine(bits, kAsMetal, group, q);
      StoreScale(groups.scale, scale.scale, arrays[1], g);
      StoreScale(groups.scale, scale.bias, arrays[2], g);
    } else {
      arrays[1][g] = std::byte{QuantizeMlxFloats(groups, kWeights, kAsMetal, group, q)};
    }
    PackBits(bits, q, arrays[0].subspan(g * packed_bytes, packed_bytes));
  }
}

template <bool kAsMetal, FloatType kWeights>
void QuantizeRows(const Encoding& encoding, const RawRows& x, std::size_t n,
                  const InputStats& /*stats*/, std::span<const std::span<std::byte>> arrays) {
  const GroupEncoding& groups = std::get<GroupEncoding>(encoding);
  assert(n % groups.group_size == 0);
  if (groups.offset == Offset::kBias) {
    std::vector<float> scales(x.size() / groups.group_size), biases(scales.size());
    if (simd::EncodeMlxAffine(BitsOf(groups.code), kAsMetal, kWeights, groups.group_size,
                              StartOf(x), scales.size(),
                              {arrays[0].data(), scales.data(), nullptr, biases.data()})) {
      // `fills` has seen that scales are of the weights' type.
      simd::ConvertFloats(Weights(scales.data()), scales.size(), kWeights, arrays[1].data());
      simd::ConvertFloats(Weights(biases.data()), biases.size(), kWeights, arrays[2].data());
      return;
    }
  } else {
    std::vector<float> scales(x.size() / groups.group_size);
    if (simd::EncodeMlxFloats(groups, kWeights, kAsMetal, StartOf(x), scales.size(),
                              {arrays[0].data(), scales.data()})) {
      for (std::size_t g = 0; g < scales.size(); ++g)
        StoreScale(groups.scale, scales[g], arrays[1], g);
      return;
    }
  }
  ForEachFloatRow(x, n, [&](std::size_t r, std::span<const float> row) {
    QuantizeByLoops<kAsMetal, kWeights>(groups, row, r * (n / groups.group_size), arrays);
  });
}

template <bool kAsMetal, FloatType kWeights>
constexpr Method kMlx = {kAsMetal ? "mlx-metal" : "mlx", kWeights, Needs::kNothing,
                         IsMlxEncoding<kWeights>, QuantizeRows<kAsMetal, kWeights>};

template <bool kAsMetal>
const Method& MethodOf(FloatType weights) noexcept {
  switch (weights) {
    case FloatType::kF32:
      return kMlx<kAsMetal, FloatType::kF32>;
    case FloatType::kF16:
      return kMlx<kAsMetal, FloatType::kF16>;
    case FloatType::kBF16:
      break;
  }
  return kMlx<kAsMetal, FloatType::kBF16>;
}

}  // namespace

const Method& MlxMethod(MlxRounding rounding, FloatType weights) noexcept {
  return rounding == MlxRounding::kMetal ? MethodOf<true>(weights) : MethodOf<false>(weights);
}

}  // namespace phiq
