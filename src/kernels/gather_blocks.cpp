// kGather: what quantize_ndarray of onnxruntime's matmul_nbits_quantizer.py stores
// for embeddings, bit for bit. It computes in the weights' own type, so with halves every step
// rounds.
#include <cmath>

#include "kernels/integer_methods.h"

namespace phiq {
namespace {

struct Float {
  static float Round(float v) noexcept { return v; }
};
struct Half {
  static float Round(float v) noexcept { return RoundToHalf(v); }
};

template <typename Type>
GroupScale ScaleOf(const GroupSpec& spec, std::span<const float> x) noexcept {
  const int middle = MiddleCode(spec);
  if (spec.symmetric)
    return {Type::Round(ExtremeOf(x) / static_cast<float>(-middle)),
            static_cast<std::uint8_t>(middle)};
  const auto last_code = static_cast<float>(LastCode(spec));
  const Range range = RangeOf(x);
  const float low = std::min(range.low, 0.0F);
  const float high = std::max(range.high, 0.0F);
  const float scale = Type::Round(Type::Round(high - low) / last_code);
  const float zero_point = scale != 0.0F ? Type::Round(-low / scale) : static_cast<float>(middle);
  return {scale, RoundToEvenCode(zero_point, last_code)};
}

template <typename Type>
GroupScale QuantizeAs(const GroupSpec& spec, std::span<const float> x,
                      std::span<std::uint8_t> codes) noexcept {
  const GroupScale group = ScaleOf<Type>(spec, x);
  if (group.scale == 0.0F) {
    std::fill(codes.begin(), codes.end(), group.zero_point);
    return group;
  }
  const auto zero_point = static_cast<float>(group.zero_point);
  const auto last_code = static_cast<float>(LastCode(spec));
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  if (spec.symmetric) {  // rounded before the zero point is added
    for (std::size_t c = 0; c < x.size(); ++c) {
      const float v = Type::Round(in[c] / group.scale);
      const float low = v > -zero_point ? v : -zero_point;
      const float cut = low < zero_point - 1.0F ? low : zero_point - 1.0F;
      out[c] = static_cast<std::uint8_t>(NearestInt(cut) + group.zero_point);
    }
  } else {
    for (std::size_t c = 0; c < x.size(); ++c)
      out[c] =
          RoundToEvenCode(Type::Round(Type::Round(in[c] / group.scale) + zero_point), last_code);
  }
  return group;
}

}  // namespace

GroupScale QuantizeGather(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept {
  return spec.scale == ScaleType::kF16 ? QuantizeAs<Half>(spec, x, codes)
                                       : QuantizeAs<Float>(spec, x, codes);
}

}  // namespace phiq
