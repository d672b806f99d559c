// kRtn: what quant_tensor of onnxruntime's weight_only.py stores, bit for bit.
#include "kernels/rtn_blocks.h"

#include <cmath>

namespace phiq {

// Ranges are taken in the weights' own type, hence RoundTo; the rest is double.
GroupScale QuantizeRtn(const GroupSpec& spec, std::span<const float> x,
                       std::span<std::uint8_t> codes) noexcept {
  const Range range = RangeOf(x);
  const int last_code = LastCode(spec);
  double scale = 1.0;
  auto zero_point = static_cast<std::uint8_t>(MiddleCode(spec));
  if (spec.symmetric) {
    const float amax = std::max(std::abs(range.low), std::abs(range.high));
    if (amax > 0.0F) scale = static_cast<double>(RoundTo(spec.scale, amax * 2.0F)) / last_code;
  } else {
    if (range.low != range.high) {
      const float width = RoundTo(spec.scale, range.high - range.low);
      scale = static_cast<double>(width) / last_code;
    }
    // The range need not hold 0: then the zero point is cut, and with it every code.
    zero_point = RoundToEvenCode((0.0 - static_cast<double>(range.low)) / scale,
                                 static_cast<double>(last_code));
  }
  EncodeInDouble(x, scale, zero_point, last_code, codes);
  return {RoundTo(spec.scale, scale), zero_point};
}

}  // namespace phiq
