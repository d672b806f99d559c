// What the arrays of an encoding hold and decode to, and what an encoding may cost.
#include "phiq/encoding.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>

#include "kernels/bits.h"
#include "kernels/float_type.h"
#include "kernels/mlx_groups.h"

namespace phiq {
namespace {

enum Array : std::size_t { kCodes, kScales, kZeroPoints, kBiases = kZeroPoints };

// Codes of a row with those that fill its last group.
std::size_t PaddedCodes(const IntegerSpec& spec, std::size_t n) noexcept {
  return spec.group_size == 0 ? n : GroupCount(spec, n) * spec.group_size;
}

void FlipTopBits(int bits, std::span<std::uint8_t> codes) noexcept {
  const auto top_bit = static_cast<std::uint8_t>(1 << (bits - 1));
  for (std::uint8_t& code : codes) code ^= top_bit;
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
ErrorBound BoundOfInteger(const IntegerSpec& spec, std::size_t n) noexcept {
  const std::size_t group_size = spec.group_size == 0 ? n : spec.group_size;
  const int middle = 1 << (spec.bits - 1);
  const double crest = std::sqrt(2.0 * std::log(2.0 * static_cast<double>(group_size)));
  const double room = spec.group_size == 0 ? 5 : 2;
  const bool is_float = spec.float_type == FloatType::kF32;
  ErrorBound bound;
  bound.relative_rmse = room * crest / (std::sqrt(12.0) * (middle - 1));
  bound.block_error = HasZeroPoints(spec) ? 1.0 : 1.0 / middle;
  bound.block_error += is_float ? 0x1p-20 : 0x1p-10;
  bound.slack = is_float ? 1e-15 : (2.0 * middle + 1.0) * 0x1p-25;
  bound.block_size = group_size;
  return bound;
}

// Largest relative error of rounding to it.
double UnitRoundoff(FloatType type) noexcept {
  switch (type) {
    case FloatType::kF32:
      return 0x1p-24;
    case FloatType::kF16:
      return 0x1p-11;
    case FloatType::kBF16:
      return 0x1p-8;
  }
  return 0;
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
ErrorBound BoundOfMlxAffine(const MlxEncoding& encoding) noexcept {
  const double last_code = (1 << encoding.bits) - 1;
  const double span = 1.6 * std::sqrt(2.0 * std::log(static_cast<double>(encoding.group_size)));
  const double u = UnitRoundoff(encoding.float_type);
  ErrorBound bound;
  bound.relative_rmse = 2.0 * (span / (std::sqrt(12.0) * last_code) + u / 2.0);
  bound.block_error = 1.0 / (1 << (encoding.bits - 1)) + 3.0 * u + 0x1p-20;
  bound.slack = 1e-7;
  if (encoding.float_type == FloatType::kF16) bound.slack += (last_code + 1.0) * 0x1p-25;
  bound.block_size = encoding.group_size;
  return bound;
}

// RMSE. Twice what Gaussian rows give: 0.118, 0.0266 and, where E4M3's scales are normal, 0.095.
//
// kMxfp4, kMxfp8. The scale never clips the largest weight, which lies in the upper octave of the
// codes: (3, 6] or (224, 448]. The worst weight is its group's largest and half way between two
// codes: 5 between 4 and 6 errs by 1/5, 272 between 256 and 288 by 1/17. float_type adds u.
// Slack: a largest weight below 6 (or 448) times the smallest half has a scale that is off by up to
// 2^-25, and codes of 0 where that rounded to 0. Floats are treated likewise below 2^-126.
//
// kNvfp4. The scale may be off by 1/17: 5 between 4 and 6 then errs by 3/17. Below 2^-6 scales are
// multiples of 2^-9: a group of less than 6 * 2^-10 vanishes, and one of little more errs by as
// much. Any pair of a share p >= 3/17 and a slack of (1 - p) * 6 * 2^-10 takes that in. With p =
// 1/2 neither is so wide that blocks in a wrong place pass; the last digit is for float_type.
ErrorBound BoundOfMlxFloats(const MlxEncoding& encoding) noexcept {
  const double u = UnitRoundoff(encoding.float_type);
  const double subnormal = encoding.float_type == FloatType::kF16 ? 0x1p-25 : 0x1p-130;
  switch (encoding.mode) {
    case MlxMode::kAffine:
      break;
    case MlxMode::kMxfp4:
      return {0.24, 1.0 / 5.0 + u, 7.0 * subnormal, encoding.group_size};
    case MlxMode::kMxfp8:
      return {0.054, 1.0 / 17.0 + u, 449.0 * subnormal, encoding.group_size};
    case MlxMode::kNvfp4:
      return {0.19, 0.5, 0.003, encoding.group_size};
  }
  return {};
}

// x[c] = scale * code + bias in float32, rounded after each step; of small floats the code's value
// times its group's scale, which is exact.
void DecodeMlxGroups(const MlxEncoding& encoding, std::span<const std::uint8_t> codes,
                     std::span<const std::span<const std::byte>> arrays,
                     std::span<float> x) noexcept {
  const std::size_t group_size = encoding.group_size;
  assert(x.size() % group_size == 0);
  for (std::size_t g = 0; g < x.size() / group_size; ++g) {
    const std::span<const std::uint8_t> q = codes.subspan(g * group_size, group_size);
    const std::span<float> out = x.subspan(g * group_size, group_size);
    if (encoding.mode != MlxMode::kAffine) {
      DequantizeMlxFloats(encoding.mode, std::to_integer<std::uint8_t>(arrays[kScales][g]), q, out);
      continue;
    }
    const float scale = LoadFloat(encoding.float_type, arrays[kScales], g);
    const float bias = LoadFloat(encoding.float_type, arrays[kBiases], g);
    for (std::size_t c = 0; c < group_size; ++c) out[c] = scale * static_cast<float>(q[c]) + bias;
  }
}

bool IsFiniteGroup(const MlxEncoding& encoding, std::span<const std::span<const std::byte>> arrays,
                   std::size_t g) noexcept {
  if (encoding.mode != MlxMode::kAffine) {
    const auto scale = std::to_integer<std::uint8_t>(arrays[kScales][g]);
    return std::isfinite(MlxScaleToFloat(encoding.mode, scale));
  }
  return std::isfinite(LoadFloat(encoding.float_type, arrays[kScales], g)) &&
         std::isfinite(LoadFloat(encoding.float_type, arrays[kBiases], g));
}

}  // namespace

std::size_t GroupCount(const IntegerSpec& spec, std::size_t n) noexcept {
  if (spec.group_size == 0) return 1;
  return n / spec.group_size + (n % spec.group_size != 0 ? 1 : 0);
}

std::string_view MlxModeName(MlxMode mode) noexcept {
  switch (mode) {
    case MlxMode::kAffine:
      return "affine";
    case MlxMode::kMxfp4:
      return "mxfp4";
    case MlxMode::kMxfp8:
      return "mxfp8";
    case MlxMode::kNvfp4:
      return "nvfp4";
  }
  return "";
}

MlxEncoding MlxFloatEncoding(MlxMode mode, FloatType float_type) noexcept {
  assert(mode != MlxMode::kAffine);
  return {.mode = mode,
          .bits = mode == MlxMode::kMxfp8 ? 8 : 4,
          .group_size = mode == MlxMode::kNvfp4 ? std::size_t{16} : std::size_t{32},
          .float_type = float_type};
}

std::string EncodingName(const Encoding& encoding) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return std::string(GetGgmlTypeInfo(*type).name);
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding)) {
    std::string name(MlxModeName(mlx->mode));
    if (mlx->mode == MlxMode::kAffine)
      name += std::to_string(mlx->bits) + " g" + std::to_string(mlx->group_size);
    return name;
  }
  const IntegerSpec& spec = std::get<IntegerEncoding>(encoding).spec;
  std::string name = "int" + std::to_string(spec.bits);
  name += spec.group_size == 0 ? " row" : " g" + std::to_string(spec.group_size);
  if (HasZeroPoints(spec)) name += " asym";
  return name;
}

std::size_t ArrayCount(const Encoding& encoding) noexcept {
  if (const IntegerEncoding* integer = std::get_if<IntegerEncoding>(&encoding))
    return HasZeroPoints(integer->spec) ? 3 : 2;
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding))
    return mlx->mode == MlxMode::kAffine ? 3 : 2;
  return 1;
}

std::size_t ArrayRowBytes(const Encoding& encoding, std::size_t array, std::size_t n) noexcept {
  assert(array < ArrayCount(encoding));
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return GgmlRowBytes(*type, n);
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding)) {
    if (array == kCodes) return n / 8 * static_cast<std::size_t>(mlx->bits);
    return n / mlx->group_size * (mlx->mode == MlxMode::kAffine ? FloatBytes(mlx->float_type) : 1);
  }
  const IntegerSpec& spec = std::get_if<IntegerEncoding>(&encoding)->spec;
  if (array == kCodes) return PackedBytes(spec.bits, PaddedCodes(spec, n));
  const std::size_t n_groups = GroupCount(spec, n);
  return array == kScales ? n_groups * FloatBytes(spec.float_type)
                          : PackedBytes(spec.bits, n_groups);
}

std::size_t EncodedRowBytes(const Encoding& encoding, std::size_t n) noexcept {
  std::size_t total_bytes = 0;
  for (std::size_t array = 0; array < ArrayCount(encoding); ++array)
    total_bytes += ArrayRowBytes(encoding, array, n);
  return total_bytes;
}

bool HasHalfRange(const Encoding& encoding) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return *type == GgmlType::kF16;
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding))
    return mlx->float_type == FloatType::kF16;
  return std::get_if<IntegerEncoding>(&encoding)->spec.float_type == FloatType::kF16;
}

void RowCodec::Decode(const Encoding& encoding, std::span<const std::span<const std::byte>> arrays,
                      std::span<float> x) {
  assert(arrays.size() == ArrayCount(encoding));
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return DequantizeGgmlRow(*type, arrays[0], x);
  codes_.resize(x.size());
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding)) {
    UnpackBits(mlx->bits, arrays[kCodes], codes_);
    return DecodeMlxGroups(*mlx, codes_, arrays, x);
  }
  const auto& [spec, signed_codes] = std::get<IntegerEncoding>(encoding);
  UnpackBits(spec.bits, arrays[kCodes].first(PackedBytes(spec.bits, x.size())), codes_);
  const std::size_t n_groups = GroupCount(spec, x.size());
  zero_points_.assign(n_groups, static_cast<std::uint8_t>(1 << (spec.bits - 1)));
  if (HasZeroPoints(spec)) {
    UnpackBits(spec.bits, arrays[kZeroPoints], zero_points_);
    if (signed_codes) FlipTopBits(spec.bits, zero_points_);
  }
  if (signed_codes) FlipTopBits(spec.bits, codes_);
  const std::size_t group_size = spec.group_size == 0 ? x.size() : spec.group_size;
  const std::uint8_t* __restrict in = codes_.data();
  float* __restrict out = x.data();
  for (std::size_t g = 0; g < n_groups; ++g) {
    const std::size_t begin = g * group_size;
    const std::size_t end = begin + std::min(group_size, x.size() - begin);
    const float scale = LoadFloat(spec.float_type, arrays[kScales], g);
    const int zero_point = zero_points_[g];
    for (std::size_t c = begin; c < end; ++c)
      out[c] = scale * static_cast<float>(in[c] - zero_point);
  }
}

std::optional<std::size_t> FindNonFinite(const Encoding& encoding,
                                         std::span<const std::span<const std::byte>> arrays,
                                         std::size_t n) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) {
    const std::optional<std::size_t> block = FindNonFinite(*type, arrays[0]);
    if (!block) return std::nullopt;
    return *block * GetGgmlTypeInfo(*type).block_size;
  }
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding)) {
    for (std::size_t g = 0; g < n / mlx->group_size; ++g)
      if (!IsFiniteGroup(*mlx, arrays, g)) return g * mlx->group_size;
    return std::nullopt;
  }
  const IntegerSpec& spec = std::get_if<IntegerEncoding>(&encoding)->spec;
  for (std::size_t g = 0; g < GroupCount(spec, n); ++g) {
    if (!std::isfinite(LoadFloat(spec.float_type, arrays[kScales], g))) return g * spec.group_size;
  }
  return std::nullopt;
}

ErrorBound BoundOf(const Encoding& encoding, std::size_t n) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return BoundOfGgml(*type);
  if (const MlxEncoding* mlx = std::get_if<MlxEncoding>(&encoding))
    return mlx->mode == MlxMode::kAffine ? BoundOfMlxAffine(*mlx) : BoundOfMlxFloats(*mlx);
  return BoundOfInteger(std::get_if<IntegerEncoding>(&encoding)->spec, n);
}

}  // namespace phiq
