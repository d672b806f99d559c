// What the plain loops and the vector kernels of onnxruntime's "rtn" and "k_quant" share.
#pragma once

#include <cmath>

#include "kernels/integer_methods.h"

namespace phiq {

// Codes of x / scale + zero_point in double, ties to even. A scale of 0 gives the end codes.
inline void EncodeInDouble(std::span<const float> x, double scale, std::uint8_t zero_point,
                           int last_code, std::span<std::uint8_t> codes) noexcept {
  const auto zero = static_cast<double>(zero_point);
  const auto top = static_cast<double>(last_code);
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c)
    out[c] = RoundToEvenCode(static_cast<double>(in[c]) / scale + zero, top);
}

struct RtnScale {
  double scale;
  std::uint8_t zero_point;
};

// Of a group with this range. Ranges are taken in the weights' own type, hence RoundTo; the rest is
// double.
inline RtnScale RtnScaleOf(const GroupSpec& spec, Range range) noexcept {
  const int last_code = LastCode(spec);
  RtnScale group{1.0, static_cast<std::uint8_t>(MiddleCode(spec))};
  if (spec.symmetric) {
    const float amax = std::max(std::abs(range.low), std::abs(range.high));
    if (amax > 0.0F)
      group.scale = static_cast<double>(RoundTo(spec.scale, amax * 2.0F)) / last_code;
    return group;
  }
  if (range.low != range.high) {
    const float width = RoundTo(spec.scale, range.high - range.low);
    group.scale = static_cast<double>(width) / last_code;
  }
  // The range need not hold 0: then the zero point is cut, and with it every code.
  group.zero_point = RoundToEvenCode((0.0 - static_cast<double>(range.low)) / group.scale,
                                     static_cast<double>(last_code));
  return group;
}

}  // namespace phiq
