// The methods that make integer groups. What they differ in is how one group becomes codes, and
// what that sees: a table of these, and one loop over rows and groups.
#include <algorithm>
#include <cassert>
#include <cstdint>
#include <vector>

#include "kernels/bits.h"
#include "kernels/integer_methods.h"
#include "kernels/scale_type.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/groups.h"
#include "phiq/quantize.h"
#include "quantize/float_rows.h"

namespace phiq {
namespace {

struct GroupMethod {
  GroupScale (*quantize)(const GroupSpec&, std::span<const float>,
                         std::span<std::uint8_t>) noexcept;
  bool rounds_weights = false;           // to the type of the scales, first
  bool sees_padding = false;             // of a short last group: the zeros that fill it
  simd::GroupKernel kernel = nullptr;    // the same for many groups at once
  std::size_t largest_group = SIZE_MAX;  // of the kernel
};

// NNCF's codes are those of float32 scales and weights.
constexpr GroupMethod kNearestGroups = {QuantizeNearest, false, false, simd::EncodeNearest};
constexpr GroupMethod kNncfGroups = {QuantizeNncf, false, false, simd::EncodeNncf};
constexpr GroupMethod kMinMaxGroups = {QuantizeMinMax, false, false, simd::EncodeMinMax};
constexpr GroupMethod kMlasGroups = {QuantizeMlas, true, false, simd::EncodeMlas};
constexpr GroupMethod kGatherGroups = {QuantizeGather, true, false, simd::EncodeGather};
constexpr GroupMethod kRtnGroups = {QuantizeRtn, true, true, simd::EncodeRtn, kMaxGroupSize};
constexpr GroupMethod kKQuantGroups = {QuantizeKQuant, true, true, simd::EncodeKQuant,
                                       kMaxGroupSize};

// A group as its method wants it.
template <const GroupMethod& kMethod>
GroupScale QuantizeGroup(const GroupSpec& spec, std::size_t group_size, std::span<const float> x,
                         std::span<std::uint8_t> codes) noexcept {
  const bool rounds = kMethod.rounds_weights && spec.scale != ScaleType::kF32;
  const std::size_t size = kMethod.sees_padding ? group_size : x.size();
  if (!rounds && size == x.size()) return kMethod.quantize(spec, x, codes);
  assert(size <= kMaxGroupSize);
  float prepared[kMaxGroupSize];
  std::uint8_t prepared_codes[kMaxGroupSize];
  for (std::size_t c = 0; c < x.size(); ++c) prepared[c] = RoundTo(spec.scale, x[c]);
  std::fill(prepared + x.size(), prepared + size, 0.0F);
  const GroupScale group = kMethod.quantize(spec, {prepared, size}, {prepared_codes, size});
  std::copy_n(prepared_codes, x.size(), codes.begin());
  return group;
}

// Of the n codes of each row, not of the zeros that fill it to `padded` codes.
void FlipPacked(int bits, std::size_t padded, std::size_t n, std::span<std::byte> packed) noexcept {
  const auto mask = bits == 4 ? std::byte{0x88} : std::byte{0x80};
  const std::size_t row_bytes = PackedBytes(bits, padded);
  for (std::size_t begin = 0; begin < packed.size(); begin += row_bytes) {
    const std::size_t n_whole = n * static_cast<std::size_t>(bits) / 8;
    for (std::byte& b : packed.subspan(begin, n_whole)) b ^= mask;
    if (bits == 4 && n % 2 != 0) packed[begin + n_whole] ^= std::byte{0x08};
  }
}

// Rows of whole groups, which a kernel takes as one run of groups.
template <const GroupMethod& kMethod>
bool QuantizeByKernel(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                      std::span<std::byte> codes, std::span<float> scales,
                      std::span<std::uint8_t> zero_points) {
  if (kMethod.kernel == nullptr || group_size % 16 != 0 || group_size > kMethod.largest_group)
    return false;
  return kMethod.kernel(spec, group_size, x, scales.size(),
                        {codes.data(), scales.data(), zero_points.data()});
}

template <const GroupMethod& kMethod>
void QuantizeRows(const Encoding& encoding, const RawRows& x, std::size_t n,
                  const InputStats& /*stats*/, std::span<const std::span<std::byte>> arrays) {
  const GroupEncoding& groups = std::get<GroupEncoding>(encoding);
  const GroupSpec spec = {BitsOf(groups.code), !HasZeroPoints(groups), groups.scale,
                          groups.positive_scales};
  const bool signed_codes = IsSigned(groups.code);
  const std::size_t group_size = groups.group_size == 0 ? n : groups.group_size;
  const std::size_t n_groups = GroupCount(groups, n), n_rows = x.size() / n;
  std::vector<float> scales(n_rows * n_groups);
  std::vector<std::uint8_t> zero_points(n_rows * n_groups);
  const auto pack = [&](std::span<const std::uint8_t> unpacked, std::size_t row,
                        std::span<std::byte> array) {
    const std::size_t row_bytes = PackedBytes(spec.bits, unpacked.size());
    PackBits(spec.bits, unpacked, array.subspan(row * row_bytes, row_bytes));
  };

  if (n % group_size != 0 ||
      !QuantizeByKernel<kMethod>(spec, group_size, StartOf(x), arrays[0], scales, zero_points)) {
    std::vector<std::uint8_t> codes(n_groups * group_size);  // zero bits fill a row's last group
    const std::span<std::uint8_t> q = std::span(codes).first(n);
    ForEachFloatRow(x, n, [&](std::size_t r, std::span<const float> weights) {
      for (std::size_t g = 0; g < n_groups; ++g) {
        const std::size_t begin = g * group_size, size = std::min(group_size, n - begin);
        const GroupScale group = QuantizeGroup<kMethod>(
            spec, group_size, weights.subspan(begin, size), q.subspan(begin, size));
        scales[r * n_groups + g] = group.scale;
        zero_points[r * n_groups + g] = group.zero_point;
      }
      pack(codes, r, arrays[0]);
    });
  }
  if (signed_codes) FlipPacked(spec.bits, n_groups * group_size, n, arrays[0]);
  // Exact: values of that type already.
  simd::ConvertFloats(Weights(scales.data()), scales.size(), AsFloatType(spec.scale),
                      arrays[1].data());
  if (!HasZeroPoints(groups)) return;
  // An 8 fills the last byte of 4-bit zero points.
  std::vector<std::uint8_t> row(spec.bits == 4 ? n_groups + n_groups % 2 : n_groups);
  const auto flip = static_cast<std::uint8_t>(signed_codes ? 1 << (spec.bits - 1) : 0);
  for (std::size_t r = 0; r < n_rows; ++r) {
    row.back() = 8;
    std::copy_n(&zero_points[r * n_groups], n_groups, row.begin());
    for (std::uint8_t& zero_point : row) zero_point ^= flip;
    pack(row, r, arrays[2]);
  }
}

// Codes of 4 or 8 bits around the middle one or a zero point.
const GroupEncoding* AsIntegers(const Encoding& encoding) noexcept {
  const auto* groups = std::get_if<GroupEncoding>(&encoding);
  if (groups == nullptr || IsFloat(groups->code)) return nullptr;
  const Offset symmetric = IsSigned(groups->code) ? Offset::kNone : Offset::kMiddle;
  const bool has_offset = groups->offset == symmetric || HasZeroPoints(*groups);
  return has_offset && BitsOf(groups->code) % 4 == 0 ? groups : nullptr;
}

bool IsFloatOrHalf(ScaleType type) noexcept {
  return type == ScaleType::kF32 || type == ScaleType::kF16;
}

// What kNearest fills.
bool HasFloatOrPositiveScales(const Encoding& encoding) noexcept {
  const GroupEncoding* groups = AsIntegers(encoding);
  if (groups == nullptr) return false;
  return groups->positive_scales ? IsFloatOrHalf(groups->scale) : groups->scale == ScaleType::kF32;
}

// What the others fill, whose scales have either sign.
bool HasFloatOrHalfScales(const Encoding& encoding) noexcept {
  const GroupEncoding* groups = AsIntegers(encoding);
  return groups != nullptr && !groups->positive_scales && IsFloatOrHalf(groups->scale);
}

bool HasAnyFloatScales(const Encoding& encoding) noexcept {
  const GroupEncoding* groups = AsIntegers(encoding);
  return groups != nullptr && !IsByte(groups->scale);  // its scales are positive anyway
}

bool IsBlocks(const Encoding& encoding) noexcept {
  if (!HasFloatOrHalfScales(encoding)) return false;
  const std::size_t group_size = std::get_if<GroupEncoding>(&encoding)->group_size;
  return group_size >= 16 && group_size <= kMaxGroupSize;
}

bool IsAffineBlocks(const Encoding& encoding) noexcept {
  if (!IsBlocks(encoding)) return false;
  const GroupEncoding& groups = *std::get_if<GroupEncoding>(&encoding);
  return HasZeroPoints(groups) && groups.group_size % 16 == 0;
}

}  // namespace

constinit const Method kNearest = {"nearest", FloatType::kF32, Needs::kNothing,
                                   HasFloatOrPositiveScales, QuantizeRows<kNearestGroups>};
constinit const Method kMlas = {"mlas", FloatType::kF32, Needs::kNothing, IsBlocks,
                                QuantizeRows<kMlasGroups>};
constinit const Method kRtn = {"rtn", FloatType::kF32, Needs::kNothing, IsBlocks,
                               QuantizeRows<kRtnGroups>};
constinit const Method kKQuant = {"k_quant", FloatType::kF32, Needs::kNothing, IsAffineBlocks,
                                  QuantizeRows<kKQuantGroups>};
constinit const Method kGather = {"gather", FloatType::kF32, Needs::kNothing, IsBlocks,
                                  QuantizeRows<kGatherGroups>};
constinit const Method kNncf = {"nncf", FloatType::kF32, Needs::kNothing, HasFloatOrHalfScales,
                                QuantizeRows<kNncfGroups>};

constinit const Method kMinMax = {"minmax", FloatType::kF32, Needs::kNothing, HasAnyFloatScales,
                                  QuantizeRows<kMinMaxGroups>};

}  // namespace phiq
