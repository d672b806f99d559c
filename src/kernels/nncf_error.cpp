// The codes and the errors both by vector kernels, where the row fits the first one's.
#include "kernels/nncf_error.h"

#include "kernels/integer_methods.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/groups.h"

namespace phiq {

float Int8RowError(std::span<const float> x, std::span<std::uint8_t> codes) noexcept {
  constexpr GroupSpec kInt8Asym = {.bits = 8, .symmetric = false};
  GroupScale group{};
  const bool is_encoded =
      x.size() % 16 == 0 &&
      simd::EncodeNncf(kInt8Asym, x.size(), Weights(x.data()), 1,
                       {std::as_writable_bytes(codes).data(), &group.scale, &group.zero_point});
  if (!is_encoded) group = QuantizeNncf(kInt8Asym, x, codes);
  const double sum = simd::SumSquaredErrors(codes, group.zero_point, group.scale, x);
  return static_cast<float>(sum / static_cast<double>(x.size()));
}

}  // namespace phiq
