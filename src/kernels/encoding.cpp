// Rows to the arrays of an encoding and back, and what an encoding may cost.
#include "phiq/encoding.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>

#include "base/endian.h"
#include "base/half.h"

namespace phiq {
namespace {

enum Array : std::size_t { kCodes, kScales, kZeroPoints };

std::size_t ScaleBytes(const IntegerSpec& spec) noexcept {
  return spec.float_type == FloatType::kF32 ? sizeof(float) : sizeof(std::uint16_t);
}

std::size_t PackedBytes(const IntegerSpec& spec, std::size_t n_codes) noexcept {
  return spec.bits == 4 ? n_codes / 2 + n_codes % 2 : n_codes;
}

// Codes of a row with those that fill its last group.
std::size_t PaddedCodes(const IntegerSpec& spec, std::size_t n) noexcept {
  return spec.group_size == 0 ? n : GroupCount(spec, n) * spec.group_size;
}

void FlipTopBits(const IntegerSpec& spec, std::span<std::uint8_t> codes) noexcept {
  const auto top_bit = static_cast<std::uint8_t>(1 << (spec.bits - 1));
  for (std::uint8_t& code : codes) code ^= top_bit;
}

void Pack(const IntegerSpec& spec, std::span<const std::uint8_t> codes,
          std::span<std::byte> packed) noexcept {
  if (spec.bits == 4) return PackNibbles(codes, packed);
  std::copy_n(reinterpret_cast<const std::byte*>(codes.data()), codes.size(), packed.data());
}

void Unpack(const IntegerSpec& spec, std::span<const std::byte> packed,
            std::span<std::uint8_t> codes) noexcept {
  if (spec.bits == 4) return UnpackNibbles(packed, codes);
  std::copy_n(packed.data(), codes.size(), reinterpret_cast<std::byte*>(codes.data()));
}

// Exact: the scales are values of their type already.
void StoreScales(FloatType type, std::span<const float> scales, std::span<std::byte> out) noexcept {
  for (std::size_t g = 0; g < scales.size(); ++g) {
    switch (type) {
      case FloatType::kF32:
        StoreLe(scales[g], out, 4 * g);
        break;
      case FloatType::kF16:
        StoreLe(FloatToFp16(scales[g]), out, 2 * g);
        break;
      case FloatType::kBF16:
        StoreLe(FloatToBf16(scales[g]), out, 2 * g);
        break;
    }
  }
}

float LoadScale(FloatType type, std::span<const std::byte> in, std::size_t g) noexcept {
  switch (type) {
    case FloatType::kF32:
      return LoadLe<float>(in, 4 * g);
    case FloatType::kF16:
      return Fp16ToFloat(LoadLe<std::uint16_t>(in, 2 * g));
    case FloatType::kBF16:
      return Bf16ToFloat(LoadLe<std::uint16_t>(in, 2 * g));
  }
  return 0.0F;
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

}  // namespace

std::string EncodingName(const Encoding& encoding) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return std::string(GetGgmlTypeInfo(*type).name);
  const IntegerSpec& spec = std::get<IntegerEncoding>(encoding).spec;
  std::string name = "int" + std::to_string(spec.bits);
  name += spec.group_size == 0 ? " row" : " g" + std::to_string(spec.group_size);
  if (HasZeroPoints(spec)) name += " asym";
  return name;
}

std::size_t ArrayCount(const Encoding& encoding) noexcept {
  const IntegerEncoding* integer = std::get_if<IntegerEncoding>(&encoding);
  if (integer == nullptr) return 1;
  return HasZeroPoints(integer->spec) ? 3 : 2;
}

std::size_t ArrayRowBytes(const Encoding& encoding, std::size_t array, std::size_t n) noexcept {
  assert(array < ArrayCount(encoding));
  const IntegerEncoding* integer = std::get_if<IntegerEncoding>(&encoding);
  if (integer == nullptr) return GgmlRowBytes(*std::get_if<GgmlType>(&encoding), n);
  const IntegerSpec& spec = integer->spec;
  if (array == kCodes) return PackedBytes(spec, PaddedCodes(spec, n));
  const std::size_t n_groups = GroupCount(spec, n);
  return array == kScales ? n_groups * ScaleBytes(spec) : PackedBytes(spec, n_groups);
}

std::size_t EncodedRowBytes(const Encoding& encoding, std::size_t n) noexcept {
  std::size_t total_bytes = 0;
  for (std::size_t array = 0; array < ArrayCount(encoding); ++array)
    total_bytes += ArrayRowBytes(encoding, array, n);
  return total_bytes;
}

bool HasHalfRange(const Encoding& encoding) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return *type == GgmlType::kF16;
  return std::get_if<IntegerEncoding>(&encoding)->spec.float_type == FloatType::kF16;
}

void RowCodec::Encode(const Encoding& encoding, std::span<const float> x,
                      std::span<const std::span<std::byte>> arrays) {
  assert(arrays.size() == ArrayCount(encoding));
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return QuantizeGgmlRow(*type, x, arrays[0]);
  const auto& [spec, signed_codes] = std::get<IntegerEncoding>(encoding);
  codes_.resize(PaddedCodes(spec, x.size()));
  scales_.resize(GroupCount(spec, x.size()));
  zero_points_.resize(scales_.size());
  const std::span<std::uint8_t> codes = std::span(codes_).first(x.size());
  std::fill(codes_.begin() + static_cast<std::ptrdiff_t>(x.size()), codes_.end(), std::uint8_t{0});
  QuantizeRow(spec, x, codes, scales_, zero_points_);
  if (signed_codes) FlipTopBits(spec, codes);
  Pack(spec, codes_, arrays[kCodes]);
  StoreScales(spec.float_type, scales_, arrays[kScales]);
  if (!HasZeroPoints(spec)) return;
  if (spec.bits == 4 && zero_points_.size() % 2 != 0) zero_points_.push_back(8);
  if (signed_codes) FlipTopBits(spec, zero_points_);
  Pack(spec, zero_points_, arrays[kZeroPoints]);
}

void RowCodec::Decode(const Encoding& encoding, std::span<const std::span<const std::byte>> arrays,
                      std::span<float> x) {
  assert(arrays.size() == ArrayCount(encoding));
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return DequantizeGgmlRow(*type, arrays[0], x);
  const auto& [spec, signed_codes] = std::get<IntegerEncoding>(encoding);
  codes_.resize(x.size());
  scales_.resize(GroupCount(spec, x.size()));
  Unpack(spec, arrays[kCodes].first(PackedBytes(spec, x.size())), codes_);
  for (std::size_t g = 0; g < scales_.size(); ++g)
    scales_[g] = LoadScale(spec.float_type, arrays[kScales], g);
  zero_points_.assign(scales_.size(), static_cast<std::uint8_t>(1 << (spec.bits - 1)));
  if (HasZeroPoints(spec)) {
    Unpack(spec, arrays[kZeroPoints], zero_points_);
    if (signed_codes) FlipTopBits(spec, zero_points_);
  }
  if (signed_codes) FlipTopBits(spec, codes_);
  DequantizeRow(spec, codes_, scales_, zero_points_, x);
}

std::optional<std::size_t> FindNonFinite(const Encoding& encoding,
                                         std::span<const std::span<const std::byte>> arrays,
                                         std::size_t n) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) {
    const std::optional<std::size_t> block = FindNonFinite(*type, arrays[0]);
    if (!block) return std::nullopt;
    return *block * GetGgmlTypeInfo(*type).block_size;
  }
  const IntegerSpec& spec = std::get_if<IntegerEncoding>(&encoding)->spec;
  for (std::size_t g = 0; g < GroupCount(spec, n); ++g) {
    if (!std::isfinite(LoadScale(spec.float_type, arrays[kScales], g))) return g * spec.group_size;
  }
  return std::nullopt;
}

ErrorBound BoundOf(const Encoding& encoding, std::size_t n) noexcept {
  const IntegerEncoding* integer = std::get_if<IntegerEncoding>(&encoding);
  if (integer == nullptr) return BoundOfGgml(*std::get_if<GgmlType>(&encoding));
  return BoundOfInteger(integer->spec, n);
}

}  // namespace phiq
