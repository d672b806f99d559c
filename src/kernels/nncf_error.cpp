// NNCF's order of additions is kept where it decides which matrices stay at 8 bits.
#include "kernels/nncf_error.h"

#include <algorithm>
#include <numeric>

#include "kernels/integer_methods.h"

namespace phiq {

float Int8RowError(std::span<const float> x, std::span<std::uint8_t> codes) noexcept {
  constexpr GroupSpec kInt8Asym = {.bits = 8, .symmetric = false};
  constexpr std::size_t kLanes = 8;  // sums of their own, which compilers make SIMD of
  const GroupScale group = QuantizeNncf(kInt8Asym, x, codes);
  const int zero_point = group.zero_point;
  const auto squared_error = [&](std::size_t c) {
    const float error = static_cast<float>(codes[c] - zero_point) * group.scale - x[c];
    return static_cast<double>(error * error);
  };
  double sums[kLanes] = {};
  std::size_t c = 0;
  for (; c + kLanes <= x.size(); c += kLanes)
    for (std::size_t i = 0; i < kLanes; ++i) sums[i] += squared_error(c + i);
  for (; c < x.size(); ++c) sums[0] += squared_error(c);
  const double sum = std::accumulate(std::begin(sums), std::end(sums), 0.0);
  return static_cast<float>(sum / static_cast<double>(x.size()));
}

}  // namespace phiq
