// kMinMax: what llm-compressor stores, bit for bit: every step of its arithmetic is in the type of
// the weights.
#include <algorithm>
#include <cmath>

#include "kernels/integer_methods.h"

namespace phiq {
namespace {

// What takes the place of a scale of 0: the distance from 1 to the next number of the type.
float EpsilonOf(ScaleType type) noexcept {
  if (type == ScaleType::kBF16) return 0x1p-7F;
  return type == ScaleType::kF16 ? 0x1p-10F : 0x1p-23F;
}

}  // namespace

GroupScale QuantizeMinMax(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept {
  const auto round = [type = spec.scale](float v) { return RoundTo(type, v); };
  const int middle = MiddleCode(spec);
  const auto first = -static_cast<float>(middle), last = static_cast<float>(middle - 1);
  const auto last_code = static_cast<float>(LastCode(spec));
  const Range range = RangeOf(x);
  // Rounding is monotone: it may come after the search for the ends.
  const float low = std::min(round(range.low), 0.0F), high = std::max(round(range.high), 0.0F);
  float scale, zero_point = 0.0F;  // of codes that are signed
  if (spec.symmetric) {
    scale = round(std::max(-low, high) / (last_code / 2.0F));
  } else {
    scale = round(round(high - low) / last_code);
    // Without a scale the quotient is infinite, or none where it is 0 / 0.
    const float quotient = low / scale;
    float nearest = low < 0.0F ? last : 0.0F;
    if (scale != 0.0F) nearest = quotient == quotient ? round(first - round(quotient)) : first;
    zero_point = std::rint(std::min(std::max(nearest, first), last));
  }
  if (scale == 0.0F) scale = EpsilonOf(spec.scale);
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c) {
    // Only of what is beyond the type's range there is no quotient, and then no finite scale.
    const float quotient = round(in[c]) / scale;
    const float v = round(round(quotient) + zero_point);
    const float cut = quotient == quotient && v > first ? v : first;  // the bounds are whole
    out[c] = static_cast<std::uint8_t>(NearestInt(cut < last ? cut : last) + middle);
  }
  return {scale, static_cast<std::uint8_t>(static_cast<int>(zero_point) + middle)};
}

}  // namespace phiq
