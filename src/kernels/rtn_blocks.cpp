// Method kRtn: what quant_tensor of onnxruntime's weight_only.py stores, bit for bit.
#include "kernels/rtn_blocks.h"

namespace phiq {

GroupScale QuantizeRtn(const GroupSpec& spec, std::span<const float> x,
                       std::span<std::uint8_t> codes) noexcept {
  const RtnScale group = RtnScaleOf(spec, RangeOf(x));
  EncodeInDouble(x, group.scale, group.zero_point, LastCode(spec), codes);
  return {RoundTo(spec.scale, group.scale), group.zero_point};
}

}  // namespace phiq
