// kNearest: phiq's own rounding to nearest.
#include <cmath>

#include "kernels/integer_methods.h"

namespace phiq {
namespace {

float LargestMagnitude(std::span<const float> x) noexcept {
  std::int32_t amax = 0;  // magnitudes compare as their bits do
  for (const float v : x) amax = std::max(amax, std::bit_cast<std::int32_t>(v) & 0x7FFFFFFF);
  return std::bit_cast<float>(amax);
}

// Codes zero_point + first ... zero_point + last, where first and last are whole numbers: cutting
// before rounding gives the same codes and keeps NearestInt in its range.
void Encode(std::span<const float> x, GroupScale group, float first, float last,
            std::span<std::uint8_t> codes) noexcept {
  if (group.scale == 0.0F) {
    std::fill(codes.begin(), codes.end(), group.zero_point);
    return;
  }
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c) {
    const float v = in[c] / group.scale;
    const float low = v > first ? v : first;
    out[c] = static_cast<std::uint8_t>(NearestInt(low < last ? low : last) + group.zero_point);
  }
}

// What is stored of a scale that is not negative: never 0.
float PositiveScale(ScaleType type, float scale) noexcept {
  if (scale == 0.0F) return 1.0F;
  const float stored = RoundTo(type, scale);
  return stored > 0.0F ? stored : kLeastHalf;
}

}  // namespace

GroupScale QuantizeNearest(const GroupSpec& spec, std::span<const float> x,
                           std::span<std::uint8_t> codes) noexcept {
  GroupScale group{0.0F, static_cast<std::uint8_t>(spec.symmetric ? MiddleCode(spec) : 0)};
  const auto last_code = static_cast<float>(LastCode(spec));
  if (spec.symmetric) {
    const float amax = LargestMagnitude(x);
    const auto qmax = static_cast<float>(MiddleCode(spec) - 1);
    if (amax >= kNearestNegligible) group.scale = amax / qmax;
    if (spec.positive_scales) group.scale = PositiveScale(spec.scale, group.scale);
    Encode(x, group, -qmax, qmax, codes);
    return group;
  }
  const Range range = RangeOf(x);
  const float low = std::min(0.0F, range.low);    // a range that holds zero keeps the zero point
  const float high = std::max(0.0F, range.high);  // among the codes
  if (std::max(-low, high) >= kNearestNegligible) {
    group.scale = (high - low) / last_code;
    group.zero_point = RoundToEvenCode(-low / group.scale, last_code);
  }
  const auto first = -static_cast<float>(group.zero_point);
  Encode(x, group, first, first + last_code, codes);
  return group;
}

}  // namespace phiq
