// The methods that make integer groups. What they differ in is how one group becomes codes, and
// what that sees: a table of these, and one loop over rows and groups.
#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/bits.h"
#include "kernels/integer_methods.h"
#include "kernels/scale_type.h"
#include "phiq/quantize.h"

namespace phiq {
namespace {

struct GroupMethod {
  GroupScale (*quantize)(const GroupSpec&, std::span<const float>,
                         std::span<std::uint8_t>) noexcept;
  bool rounds_weights = false;  // to the type of the scales, first
  bool sees_padding = false;    // of a short last group: the zeros that fill it
};

// NNCF's codes are those of float32 scales and weights. kNearest's scales are float32.
constexpr GroupMethod kNearestGroups = {QuantizeNearest};
constexpr GroupMethod kNncfGroups = {QuantizeNncf};
constexpr GroupMethod kMlasGroups = {QuantizeMlas, true};
constexpr GroupMethod kGatherGroups = {QuantizeGather, true};
constexpr GroupMethod kRtnGroups = {QuantizeRtn, true, true};
constexpr GroupMethod kKQuantGroups = {QuantizeKQuant, true, true};

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

template <const GroupMethod& kMethod>
void QuantizeRows(const Encoding& encoding, std::span<const float> x, std::size_t n,
                  const InputStats& /*stats*/, std::span<const std::span<std::byte>> arrays) {
  const GroupEncoding& groups = std::get<GroupEncoding>(encoding);
  const int bits = BitsOf(groups.code);
  const GroupSpec spec = {bits, !HasZeroPoints(groups), groups.scale};
  const std::size_t group_size = groups.group_size == 0 ? n : groups.group_size;
  const std::size_t n_groups = GroupCount(groups, n);
  // Zero bits fill a row's last group, and an 8 the last byte of 4-bit zero points.
  std::vector<std::uint8_t> codes(n_groups * group_size);
  const std::size_t n_zero_points = bits == 4 ? n_groups + n_groups % 2 : n_groups;
  std::vector<std::uint8_t> zero_points(n_zero_points, std::uint8_t{8});
  const std::span<std::uint8_t> q = std::span(codes).first(n);
  for (std::size_t r = 0; r < x.size() / n; ++r) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      const std::size_t begin = g * group_size, size = std::min(group_size, n - begin);
      const GroupScale group = QuantizeGroup<kMethod>(
          spec, group_size, x.subspan(r * n + begin, size), q.subspan(begin, size));
      StoreScale(groups.scale, group.scale, arrays[1], r * n_groups + g);
      zero_points[g] = group.zero_point;
    }
    const auto pack = [&](std::span<std::uint8_t> unpacked, std::span<std::byte> array) {
      const std::size_t row_bytes = PackedBytes(bits, unpacked.size());
      PackBits(bits, unpacked, array.subspan(r * row_bytes, row_bytes));
    };
    if (IsSigned(groups.code)) FlipTopBits(bits, q);
    pack(codes, arrays[0]);
    if (!HasZeroPoints(groups)) continue;
    if (n_zero_points > n_groups) zero_points.back() = 8;
    if (IsSigned(groups.code)) FlipTopBits(bits, zero_points);
    pack(zero_points, arrays[2]);
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

bool HasFloatScales(const Encoding& encoding) noexcept {
  const GroupEncoding* groups = AsIntegers(encoding);
  return groups != nullptr && groups->scale == ScaleType::kF32;
}

bool HasFloatOrHalfScales(const Encoding& encoding) noexcept {
  const GroupEncoding* groups = AsIntegers(encoding);
  return HasFloatScales(encoding) || (groups != nullptr && groups->scale == ScaleType::kF16);
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

constinit const Method kNearest = {"nearest", FloatType::kF32, Needs::kNothing, HasFloatScales,
                                   QuantizeRows<kNearestGroups>};
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

}  // namespace phiq
