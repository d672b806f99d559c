// kMlas: what onnxruntime's BlockwiseQuantizer (core/mlas/lib/q4_dq.cpp) stores, bit
// for bit.
#include <cmath>

#include "kernels/integer_methods.h"

namespace phiq {
namespace {

GroupScale ScaleOf(const GroupSpec& spec, std::span<const float> x) noexcept {
  const auto middle = static_cast<float>(MiddleCode(spec));
  if (spec.symmetric) {
    const float scale = -ExtremeOf(x) / middle;  // the extreme becomes code 0, there is one more
    return {RoundTo(spec.scale, scale), static_cast<std::uint8_t>(MiddleCode(spec))};
  }
  const auto last_code = static_cast<float>(LastCode(spec));
  const Range range = RangeOf(x);
  const float low = std::min(range.low, 0.0F);
  const float high = std::max(range.high, 0.0F);
  const float scale = (high - low) / last_code;
  // The zero point comes from the scale before that becomes a half; the codes do not.
  const float zero_point = scale != 0.0F ? 0.0F - low / scale : 0.0F;
  return {RoundTo(spec.scale, scale), RoundToCode(zero_point, last_code)};
}

}  // namespace

GroupScale QuantizeMlas(const GroupSpec& spec, std::span<const float> x,
                        std::span<std::uint8_t> codes) noexcept {
  const GroupScale group = ScaleOf(spec, x);
  const float inv_scale = group.scale != 0.0F ? 1.0F / group.scale : 0.0F;
  const auto zero_point = static_cast<float>(group.zero_point);
  const auto last_code = static_cast<float>(LastCode(spec));
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c)
    out[c] = RoundToCode(in[c] * inv_scale + zero_point, last_code);
  return group;
}

}  // namespace phiq
