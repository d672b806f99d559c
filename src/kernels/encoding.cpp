// What the arrays of an encoding hold and decode to, and what an encoding may cost.
#include "phiq/encoding.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>

#include "kernels/bits.h"
#include "kernels/scale_type.h"
#include "kernels/simd/decode.h"
#include "kernels/simd/floats.h"

namespace phiq {
namespace {

enum Array : std::size_t { kCodes, kScales, kOffsets };

// Codes of a row with those that fill its last group.
std::size_t PaddedCodes(const GroupEncoding& groups, std::size_t n) noexcept {
  return groups.group_size == 0 ? n : GroupCount(groups, n) * groups.group_size;
}

// `relative_rmse`: about twice what Gaussian weights give (docs/quantization.md "Errors to
// expect"), since trained rows have outliers. `block_error`: half a step for the round-to-nearest
// types, one whole step where the far end is clipped (Q4_0, Q5_0), and no more than the block's
// largest weight itself for the types that search. `levels`: steps of the scale in the largest
// weight; a scale below the normal halves is off by up to 2^-25, a weight by that many times.
struct GgmlErrorBound {
  GgmlType type;
  double relative_rmse;
  double block_error;
  double levels;
};
constexpr GgmlErrorBound kGgmlErrorBounds[] = {
    {GgmlType::kF32, 0, 0, 0},
    {GgmlType::kF16, 0x1p-11, 0x1p-11, 1},
    {GgmlType::kBF16, 0x1p-8, 0x1p-8, 0x1p-100},  // a BF16 denormal's step is far below a half's
    {GgmlType::kQ8_0, 0.02, 0.0045, 127},
    {GgmlType::kQ6_K, 0.05, 1, 4096},
    {GgmlType::kQ5_K, 0.09, 1, 63 * 31},
    {GgmlType::kQ5_1, 0.10, 0.036, 32},
    {GgmlType::kQ5_0, 0.11, 0.066, 16},
    {GgmlType::kQ4_K, 0.17, 1, 63 * 15},
    {GgmlType::kQ4_1, 0.19, 0.072, 16},
    {GgmlType::kQ4_0, 0.22, 0.13, 8},
    {GgmlType::kIQ4_NL, 0.20, 1, 127},
    {GgmlType::kIQ4_XS, 0.20, 1, 32 * 127},
    {GgmlType::kQ3_K, 0.35, 1, 32 * 4},
    {GgmlType::kQ2_K, 0.60, 1, 15 * 3},
};

ErrorBound BoundOfGgml(GgmlType type) noexcept {
  const GgmlErrorBound& bound =
      *std::find_if(std::begin(kGgmlErrorBounds), std::end(kGgmlErrorBounds),
                    [type](const GgmlErrorBound& b) { return b.type == type; });
  return {bound.relative_rmse, bound.block_error, bound.levels * 0x1p-25,
          GetGgmlTypeInfo(type).block_size};
}

// Largest relative error of rounding to it; of types that MLX's weights and scales have.
double UnitRoundoff(ScaleType type) noexcept {
  return type == ScaleType::kF32 ? 0x1p-24 : type == ScaleType::kF16 ? 0x1p-11 : 0x1p-8;
}

// RMSE. A Gaussian group of g weights has its largest near sqrt(2 ln 2g) standard deviations, the
// widest scale takes that in 2^(b-1) - 1 steps (kNearest), and a step errs by 1/sqrt(12).
// Twice that; five times for groups that span a row, which meets each of a model's outlier columns.
//
// Weight, symmetric. kMlas and kGather: the far end is clipped by up to one step of m / 2^(b-1),
// m the largest magnitude. kRtn errs by half a step of 2m / (2^b - 1), kNearest of
// m / (2^(b-1) - 1): less.
//
// Weight, with zero points. kMlas and kNearest err by one step at most, but "rtn" and "k_quant" cut
// a group that lies far from 0 down to their codes. Of all methods it is true that 0 is one of the
// decoded values and that none other is nearer to the weight: the error is at most |x|. Blocks in a
// wrong place do not keep to it: of two Gaussian rows some weights have opposite signs.
//
// Halves. Rounding weight and scale costs 2^-11 of the largest weight each (for "rtn" the scale
// after the codes are chosen), and 2^-25 a level below the normal range.
// Floats. 2^-20 is more than the roundings of the formulas; kNearest takes magnitudes below 1e-15
// for zeros, and the other methods' reciprocals fail below 2^-126.
ErrorBound BoundOfIntegers(const GroupEncoding& groups, std::size_t n) noexcept {
  const std::size_t group_size = groups.group_size == 0 ? n : groups.group_size;
  const int middle = 1 << (BitsOf(groups.code) - 1);
  const double crest = std::sqrt(2.0 * std::log(2.0 * static_cast<double>(group_size)));
  const double room = groups.group_size == 0 ? 5 : 2;
  const bool is_float = groups.scale == ScaleType::kF32;
  ErrorBound bound;
  bound.relative_rmse = room * crest / (std::sqrt(12.0) * (middle - 1));
  bound.block_error = HasZeroPoints(groups) ? 1.0 : 1.0 / middle;
  bound.block_error += is_float ? 0x1p-20 : 2.0 * UnitRoundoff(groups.scale);
  bound.slack = is_float ? 1e-15 : (2.0 * middle + 1.0) * 0x1p-25;
  bound.block_size = group_size;
  return bound;
}

// RMSE. A Gaussian group of g weights (32 to 128) spans about 1.6 sqrt(2 ln g) standard deviations,
// in 2^b - 1 steps, and a step errs by 1/sqrt(12). Rounding the scale, which is uneven over the
// codes, adds about u / 2. Twice that.
//
// Weight. The edge m, the end of larger magnitude, is exact, and the steps are m / q0 with
// |q0| >= 2^(b-1). Where q0 was rounded up the steps have shrunk, and the far end is clipped by up
// to one of them. Rounding the scale moves the last code by less than 2^b steps times u, so 2 u m;
// a weight that is no value of float_type was rounded to one first, u m.
//
// Slack. Steps are at least 1e-7, and as much may be clipped. A half below 2^-14 is off by up to
// 2^-25, what the last code decodes to by that many times, and the weight itself once.
ErrorBound BoundOfBiased(const GroupEncoding& groups) noexcept {
  const int bits = BitsOf(groups.code);
  const double last_code = (1 << bits) - 1;
  const double span = 1.6 * std::sqrt(2.0 * std::log(static_cast<double>(groups.group_size)));
  const double u = UnitRoundoff(groups.scale);
  ErrorBound bound;
  bound.relative_rmse = 2.0 * (span / (std::sqrt(12.0) * last_code) + u / 2.0);
  bound.block_error = 1.0 / (1 << (bits - 1)) + 3.0 * u + 0x1p-20;
  bound.slack = 1e-7;
  if (groups.scale == ScaleType::kF16) bound.slack += (last_code + 1.0) * 0x1p-25;
  bound.block_size = groups.group_size;
  return bound;
}

// RMSE. Twice what Gaussian rows give: 0.118, 0.0266 and, where E4M3's scales are normal, 0.095.
//
// kMxfp4, kMxfp8. The scale never clips the largest weight, which lies in the upper octave of the
// codes: (3, 6] or (224, 448]. The worst weight is its group's largest and half way between two
// codes: 5 between 4 and 6 errs by 1/5, 272 between 256 and 288 by 1/17. Weights may have been
// rounded to BF16 first, which adds 2^-8, or to halves, whose step is 2^-24 below 2^-14.
// Slack: a largest weight below 6 (or 448) times the smallest half then has a scale that is off by
// up to 2^-25, and codes of 0 where that rounded to 0.
//
// kNvfp4. The scale may be off by 1/17: 5 between 4 and 6 then errs by 3/17. Below 2^-6 scales are
// multiples of 2^-9: a group of less than 6 * 2^-10 vanishes, and one of little more errs by as
// much. Any pair of a share p >= 3/17 and a slack of (1 - p) * 6 * 2^-10 takes that in. With p =
// 1/2 neither is so wide that blocks in a wrong place pass; the last digit is for the rounding.
ErrorBound BoundOfSmallFloats(const GroupEncoding& groups) noexcept {
  if (groups.scale == ScaleType::kE4M3) return {0.19, 0.5, 0.003, groups.group_size};
  if (groups.code == Code::kE4M3)
    return {0.054, 1.0 / 17.0 + 0x1p-8, 449.0 * 0x1p-25, groups.group_size};
  return {0.24, 1.0 / 5.0 + 0x1p-8, 7.0 * 0x1p-25, groups.group_size};
}

}  // namespace

int BitsOf(Code code) noexcept {
  switch (code) {
    case Code::kU2:
      return 2;
    case Code::kU3:
      return 3;
    case Code::kU4:
    case Code::kI4:
    case Code::kE2M1:
      return 4;
    case Code::kU5:
      return 5;
    case Code::kU6:
      return 6;
    case Code::kU8:
    case Code::kI8:
    case Code::kE4M3:
      break;
  }
  return 8;
}

Code UnsignedCode(int bits) noexcept {
  constexpr Code kCodes[] = {Code::kU2, Code::kU3, Code::kU4, Code::kU5, Code::kU6, Code::kU8};
  const auto* found = std::ranges::find(kCodes, bits, BitsOf);
  assert(found != std::end(kCodes));
  return *found;
}

std::string EncodingName(const Encoding& encoding) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return std::string(GetGgmlTypeInfo(*type).name);
  const GroupEncoding& groups = std::get<GroupEncoding>(encoding);
  if (groups.code == Code::kE4M3) return "mxfp8";
  if (groups.code == Code::kE2M1) return groups.scale == ScaleType::kE4M3 ? "nvfp4" : "mxfp4";
  std::string name = groups.offset == Offset::kBias ? "affine" : "int";
  name += std::to_string(BitsOf(groups.code));
  name += groups.group_size == 0 ? " row" : " g" + std::to_string(groups.group_size);
  if (HasZeroPoints(groups)) name += " asym";
  return name;
}

std::size_t ArrayCount(const Encoding& encoding) noexcept {
  const GroupEncoding* groups = std::get_if<GroupEncoding>(&encoding);
  if (groups == nullptr) return 1;
  return HasZeroPoints(*groups) || groups->offset == Offset::kBias ? 3 : 2;
}

std::size_t ArrayRowBytes(const Encoding& encoding, std::size_t array, std::size_t n) noexcept {
  assert(array < ArrayCount(encoding));
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return GgmlRowBytes(*type, n);
  const GroupEncoding& groups = *std::get_if<GroupEncoding>(&encoding);
  if (array == kCodes) return PackedBytes(BitsOf(groups.code), PaddedCodes(groups, n));
  const std::size_t n_groups = GroupCount(groups, n);
  if (array == kOffsets && HasZeroPoints(groups)) return PackedBytes(BitsOf(groups.code), n_groups);
  return n_groups * ScaleBytes(groups.scale);
}

std::size_t EncodedRowBytes(const Encoding& encoding, std::size_t n) noexcept {
  std::size_t total_bytes = 0;
  for (std::size_t array = 0; array < ArrayCount(encoding); ++array)
    total_bytes += ArrayRowBytes(encoding, array, n);
  return total_bytes;
}

bool HasHalfRange(const Encoding& encoding) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return *type == GgmlType::kF16;
  return std::get_if<GroupEncoding>(&encoding)->scale == ScaleType::kF16;
}

void RowCodec::Decode(const Encoding& encoding, std::span<const std::span<const std::byte>> arrays,
                      std::span<float> x) {
  assert(arrays.size() == ArrayCount(encoding));
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return DequantizeGgmlRow(*type, arrays[0], x);
  const GroupEncoding& groups = std::get<GroupEncoding>(encoding);
  const int bits = BitsOf(groups.code);
  const std::size_t n_groups = GroupCount(groups, x.size());
  codes_.resize(x.size());
  UnpackBits(bits, arrays[kCodes].first(PackedBytes(bits, x.size())), codes_);
  zero_points_.resize(n_groups);
  if (HasZeroPoints(groups)) UnpackBits(bits, arrays[kOffsets], zero_points_);
  if (IsSigned(groups.code)) {  // as unsigned codes around the middle
    FlipTopBits(bits, codes_);
    FlipTopBits(bits, zero_points_);
  }
  if (!HasZeroPoints(groups)) {
    const bool has_middle = groups.offset == Offset::kMiddle || IsSigned(groups.code);
    std::ranges::fill(zero_points_, static_cast<std::uint8_t>(has_middle ? 1 << (bits - 1) : 0));
  }
  const auto load = [&](std::size_t array, std::vector<float>& values) {
    values.resize(n_groups);
    for (std::size_t g = 0; g < n_groups; ++g)
      values[g] = LoadScale(groups.scale, arrays[array], g);
    return values.data();
  };
  simd::CodedGroups coded;
  coded.code = groups.code;
  coded.size = groups.group_size == 0 ? x.size() : groups.group_size;
  coded.scales = load(kScales, scales_);
  coded.zero_points = zero_points_.data();
  if (groups.offset == Offset::kBias) coded.biases = load(kOffsets, biases_);
  simd::DecodeCodes(codes_.data(), x.size(), coded, x.data());
}

std::optional<std::size_t> FindNonFinite(const Encoding& encoding,
                                         std::span<const std::span<const std::byte>> arrays,
                                         std::size_t n) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) {
    const std::optional<std::size_t> block = FindNonFinite(*type, arrays[0]);
    if (!block) return std::nullopt;
    return *block * GetGgmlTypeInfo(*type).block_size;
  }
  const GroupEncoding& groups = *std::get_if<GroupEncoding>(&encoding);
  const bool has_biases = groups.offset == Offset::kBias;
  const std::size_t n_groups = GroupCount(groups, n);
  const auto are_finite = [&](std::size_t array) {
    return std::isfinite(
        simd::LargestMagnitude({AsFloatType(groups.scale), arrays[array].data()}, n_groups));
  };
  if (IsByte(groups.scale)) {  // NaN is their only value that is not finite
    const std::span<const std::byte> scales = arrays[kScales].first(n_groups);
    const auto is_nan = [&](std::byte scale) {
      const auto magnitude = groups.scale == ScaleType::kE4M3 ? scale & std::byte{0x7F} : scale;
      return magnitude == std::byte{groups.scale == ScaleType::kE4M3 ? kE4m3Nan : kE8m0Nan};
    };
    const auto nan = std::ranges::find_if(scales, is_nan);
    if (nan == scales.end()) return std::nullopt;
    return static_cast<std::size_t>(nan - scales.begin()) * groups.group_size;
  }
  if (are_finite(kScales) && (!has_biases || are_finite(kOffsets))) return std::nullopt;
  for (std::size_t g = 0; g < n_groups; ++g) {
    if (!std::isfinite(LoadScale(groups.scale, arrays[kScales], g)) ||
        (has_biases && !std::isfinite(LoadScale(groups.scale, arrays[kOffsets], g))))
      return g * groups.group_size;
  }
  return std::nullopt;
}

ErrorBound BoundOf(const Encoding& encoding, std::size_t n) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return BoundOfGgml(*type);
  const GroupEncoding& groups = *std::get_if<GroupEncoding>(&encoding);
  if (IsFloat(groups.code)) return BoundOfSmallFloats(groups);
  return groups.offset == Offset::kBias ? BoundOfBiased(groups) : BoundOfIntegers(groups, n);
}

}  // namespace phiq
