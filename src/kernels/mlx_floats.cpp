// MLX's small-float modes: what mx.quantize stores, bit for bit. Its CPU back end rounds each step
// to the type of the weights, Metal computes in float32.
#include <algorithm>
#include <cmath>

#include "kernels/integer_methods.h"
#include "kernels/mlx_groups.h"
#include "kernels/rounding.h"
#include "kernels/small_floats.h"

namespace phiq {
namespace {

constexpr float kE2m1Largest = 6.0F;

float RoundToFloatType(FloatType type, float x) noexcept {
  return type == FloatType::kF32 ? x : type == FloatType::kF16 ? RoundToHalf(x) : RoundToBf16(x);
}

// The smallest E8M0 that is not below a.
std::uint8_t NextPowerOfTwo(float a, bool as_metal) noexcept {
  if (a == 0.0F) return as_metal ? 0 : 127;
  if (!std::isfinite(a)) return kE8m0Nan;
  int exponent = 0;
  if (std::frexp(a, &exponent) == 0.5F) --exponent;  // a power of two itself
  return static_cast<std::uint8_t>(std::clamp(exponent, -127, 127) + 127);
}

// On the CPU -0 has no code of its own.
void EncodeE2m1(bool as_metal, std::span<const float> x, std::span<std::uint8_t> codes) noexcept {
  const MlxBorders borders = as_metal ? kMlxMetalBorders : kMlxCpuBorders;
  const int least_signed = as_metal ? 0 : 1;
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(in[c]);
    const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFU);
    int code = 0;
    for (const float border : borders.at) code += magnitude > border ? 1 : 0;
    const int sign = static_cast<int>(bits >> 28 & 8U);
    out[c] = static_cast<std::uint8_t>(code + (code >= least_signed ? sign : 0));
  }
}

void EncodeE4m3(std::span<const float> x, std::span<std::uint8_t> codes) noexcept {
  const float* __restrict in = x.data();
  std::uint8_t* __restrict out = codes.data();
  for (std::size_t c = 0; c < x.size(); ++c) out[c] = FloatToE4m3(in[c]);
}

// Products with powers of two are exact; what falls below the normal floats has code 0 anyway, and
// so has what falls below the normal halves.
void ScaleBy(float factor, std::span<const float> x, float* __restrict out) noexcept {
  const float* __restrict in = x.data();
  for (std::size_t c = 0; c < x.size(); ++c) out[c] = in[c] * factor;
}

// MLX rounds the quotients to the weights' type, which moves none to a border or across one: scales
// and borders have so few bits that a border times a scale is a weight, and quotients of its
// neighbours are more than half a last place from the border.
void DivideBy(float scale, std::span<const float> x, float* __restrict out) noexcept {
  const float* __restrict in = x.data();
  for (std::size_t c = 0; c < x.size(); ++c) out[c] = in[c] / scale;
}

std::uint8_t QuantizeNvfp4(bool as_metal, float a, std::span<const float> x,
                           std::span<std::uint8_t> codes) noexcept {
  const std::uint8_t byte = FloatToE4m3(a);
  const float scale = E4m3ToFloat(byte);
  float scaled[kMaxMlxGroupSize];
  if (as_metal) {
    ScaleBy(scale == 0.0F ? 0.0F : 1.0F / scale, x, scaled);
  } else if (scale == 0.0F) {
    std::fill_n(scaled, x.size(), 0.0F);  // MLX finds no entry nearest to NaN or Inf
  } else {
    DivideBy(scale, x, scaled);
  }
  EncodeE2m1(as_metal, {scaled, x.size()}, codes);
  // 464 is half way to the 480 that would come next.
  return a <= 464.0F ? byte : kE4m3Nan;
}

}  // namespace

std::uint8_t QuantizeMlxFloats(const GroupEncoding& groups, FloatType type, bool as_metal,
                               std::span<const float> x, std::span<std::uint8_t> codes) noexcept {
  const bool is_e4m3 = groups.code == Code::kE4M3;
  const float amax = std::abs(ExtremeOf(x));
  const float exact = amax / (is_e4m3 ? 448.0F : kE2m1Largest);
  const float a = as_metal ? exact : RoundToFloatType(type, exact);
  if (groups.scale == ScaleType::kE4M3) return QuantizeNvfp4(as_metal, a, x, codes);
  const std::uint8_t byte = NextPowerOfTwo(a, as_metal);
  float scaled[kMaxMlxGroupSize];
  ScaleBy(1.0F / E8m0ToFloat(byte), x, scaled);
  if (is_e4m3) {
    EncodeE4m3({scaled, x.size()}, codes);
  } else {
    EncodeE2m1(as_metal, {scaled, x.size()}, codes);
  }
  return byte;
}

}  // namespace phiq
