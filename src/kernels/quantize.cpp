#include "phiq/quantize.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/rounding.h"

namespace phiq {
namespace {

constexpr float kNegligible = 1e-15F;  // a group below this counts as zero

struct GroupScale {
  float scale;
  int zero_point;
  int first_code;
  int last_code;
};

GroupScale SymmetricScale(std::span<const float> x, int bits) noexcept {
  const int zero_point = 1 << (bits - 1);
  float amax = 0.0F;
  for (const float v : x) amax = std::max(amax, std::abs(v));
  const float scale = amax < kNegligible ? 0.0F : amax / static_cast<float>(zero_point - 1);
  return {scale, zero_point, 1, 2 * zero_point - 1};
}

GroupScale AffineScale(std::span<const float> x, int bits) noexcept {
  const int last_code = (1 << bits) - 1;
  float low = 0.0F;  // a range that holds zero keeps the zero point among the codes
  float high = 0.0F;
  for (const float v : x) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  if (std::max(-low, high) < kNegligible) return {0.0F, 0, 0, last_code};
  const float scale = (high - low) / static_cast<float>(last_code);
  return {scale, std::clamp(NearestInt(-low / scale), 0, last_code), 0, last_code};
}

}  // namespace

std::size_t GroupCount(const IntegerSpec& spec, std::size_t n) noexcept {
  if (spec.group_size == 0) return 1;
  return n / spec.group_size + (n % spec.group_size != 0 ? 1 : 0);
}

void QuantizeRow(const IntegerSpec& spec, std::span<const float> x, std::span<std::uint8_t> codes,
                 std::span<float> scales, std::span<std::uint8_t> zero_points) noexcept {
  assert(spec.bits == 4 || spec.bits == 8);
  assert(!x.empty() && codes.size() == x.size());
  assert(scales.size() == GroupCount(spec, x.size()) && zero_points.size() == scales.size());
  const std::size_t group_size = spec.group_size == 0 ? x.size() : spec.group_size;
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const std::size_t begin = g * group_size;
    const std::size_t end = begin + std::min(group_size, x.size() - begin);
    const std::span<const float> group = x.subspan(begin, end - begin);
    const GroupScale s =
        spec.symmetric ? SymmetricScale(group, spec.bits) : AffineScale(group, spec.bits);
    scales[g] = s.scale;
    zero_points[g] = static_cast<std::uint8_t>(s.zero_point);
    for (std::size_t c = begin; c < end; ++c) {
      const int q = s.scale != 0.0F ? NearestInt(x[c] / s.scale) : 0;
      codes[c] =
          static_cast<std::uint8_t>(std::clamp(q + s.zero_point, s.first_code, s.last_code));
    }
  }
}

void DequantizeRow(const IntegerSpec& spec, std::span<const std::uint8_t> codes,
                   std::span<const float> scales, std::span<const std::uint8_t> zero_points,
                   std::span<float> x) noexcept {
  assert(x.size() == codes.size());
  assert(scales.size() == GroupCount(spec, x.size()) && zero_points.size() == scales.size());
  const std::size_t group_size = spec.group_size == 0 ? x.size() : spec.group_size;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const std::size_t g = c / group_size;
    x[c] = scales[g] * static_cast<float>(codes[c] - zero_points[g]);
  }
}

void PackNibbles(std::span<const std::uint8_t> codes, std::span<std::byte> packed) noexcept {
  assert(packed.size() == (codes.size() + 1) / 2);
  for (std::size_t i = 0; i < packed.size(); ++i) {
    const std::uint8_t low = codes[2 * i];
    const std::uint8_t high = 2 * i + 1 < codes.size() ? codes[2 * i + 1] : std::uint8_t{0};
    packed[i] = static_cast<std::byte>((low & 15) | (high << 4));
  }
}

void UnpackNibbles(std::span<const std::byte> packed, std::span<std::uint8_t> codes) noexcept {
  assert(packed.size() == (codes.size() + 1) / 2);
  for (std::size_t c = 0; c < codes.size(); ++c) {
    codes[c] = std::to_integer<std::uint8_t>((packed[c / 2] >> (4 * (c % 2))) & std::byte{15});
  }
}

}  // namespace phiq
