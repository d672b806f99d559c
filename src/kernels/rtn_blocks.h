// The last step that onnxruntime's "rtn" and "k_quant" share.
#pragma once

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

}  // namespace phiq
