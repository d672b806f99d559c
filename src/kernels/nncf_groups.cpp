// kNncf: what NNCF's weight compression (quantization/algorithms/weight_compression)
// stores, bit for bit.
#include <cmath>
#include <limits>

#include "kernels/integer_methods.h"

namespace phiq {
namespace {

// NNCF's guard against division by zero, and the smallest magnitude a scale has.
float AwayFromZero(float scale) noexcept {
  constexpr float kLeast = std::numeric_limits<float>::epsilon();
  return std::abs(scale) < kLeast ? kLeast : scale;
}

// The scale is signed: the extreme lands on -middle, the one code more that the negative side has.
GroupScale QuantizeSymmetric(const GroupSpec& spec, std::span<const float> x,
                             std::span<std::uint8_t> codes) noexcept {
  const int middle = MiddleCode(spec);
  const Range range = RangeOf(x);
  const float low = std::abs(range.low);
  const float scale =
      AwayFromZero((low >= range.high ? low : -range.high) / static_cast<float>(middle));
  const auto first = -static_cast<float>(middle);
  const auto last = static_cast<float>(middle - 1);
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c) {
    const float v = in[c] / scale;
    const float cut = v > first ? v : first;  // cut before rounding: the bounds are whole
    out[c] = static_cast<std::uint8_t>(NearestInt(cut < last ? cut : last) + middle);
  }
  return {RoundTo(spec.scale, scale), static_cast<std::uint8_t>(middle)};
}

GroupScale QuantizeAffine(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept {
  const auto last_code = static_cast<float>(LastCode(spec));
  const Range range = RangeOf(x);
  const float low = std::min(0.0F, range.low);
  const float high = std::max(0.0F, range.high);
  const float scale = AwayFromZero((high - low) / last_code);
  const std::uint8_t zero_point = RoundToEvenCode(-low / scale, last_code);
  const auto offset = static_cast<float>(zero_point);
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c)
    out[c] = RoundToEvenCode(in[c] / scale + offset, last_code);
  return {RoundTo(spec.scale, scale), zero_point};
}

}  // namespace

GroupScale QuantizeNncf(const GroupSpec& spec, std::span<const float> x,
                        std::span<std::uint8_t> codes) noexcept {
  return spec.symmetric ? QuantizeSymmetric(spec, x, codes) : QuantizeAffine(spec, x, codes);
}

}  // namespace phiq
