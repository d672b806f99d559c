// The methods that make integer groups. What they differ in is how one group becomes codes, and
// what that sees: a table of these, and one loop over rows and groups.
#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/bits.h"
#include "kernels/float_type.h"
#include "kernels/integer_methods.h"
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
  const bool rounds = kMethod.rounds_weights && spec.float_type != FloatType::kF32;
  const std::size_t size = kMethod.sees_padding ? group_size : x.size();
  if (!rounds && size == x.size()) return kMethod.quantize(spec, x, codes);
  assert(size <= kMaxGroupSize);
  float prepared[kMaxGroupSize];
  std::uint8_t prepared_codes[kMaxGroupSize];
  for (std::size_t c = 0; c < x.size(); ++c) prepared[c] = RoundTo(spec.float_type, x[c]);
  std::fill(prepared + x.size(), prepared + size, 0.0F);
  const GroupScale group = kMethod.quantize(spec, {prepared, size}, {prepared_codes, size});
  std::copy_n(prepared_codes, x.size(), codes.begin());
  return group;
}

void FlipTopBits(int bits, std::span<std::uint8_t> codes) noexcept {
  const auto top_bit = static_cast<std::uint8_t>(1 << (bits - 1));
  for (std::uint8_t& code : codes) code ^= top_bit;
}

template <const GroupMethod& kMethod>
void QuantizeRows(const Encoding& encoding, std::span<const float> x, std::size_t n,
                  std::span<const std::span<std::byte>> arrays) {
  const auto& [spec, signed_codes] = std::get<IntegerEncoding>(encoding);
  const GroupSpec group_spec = {spec.bits, spec.symmetric, spec.float_type};
  const std::size_t group_size = spec.group_size == 0 ? n : spec.group_size;
  const std::size_t n_groups = GroupCount(spec, n);
  // Zero bits fill a row's last group, and an 8 the last byte of 4-bit zero points.
  std::vector<std::uint8_t> codes(n_groups * group_size);
  const std::size_t n_zero_points = spec.bits == 4 ? n_groups + n_groups % 2 : n_groups;
  std::vector<std::uint8_t> zero_points(n_zero_points, std::uint8_t{8});
  const std::span<std::uint8_t> q = std::span(codes).first(n);
  for (std::size_t r = 0; r < x.size() / n; ++r) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      const std::size_t begin = g * group_size, size = std::min(group_size, n - begin);
      const GroupScale group = QuantizeGroup<kMethod>(
          group_spec, group_size, x.subspan(r * n + begin, size), q.subspan(begin, size));
      StoreFloat(spec.float_type, group.scale, arrays[1], r * n_groups + g);
      zero_points[g] = group.zero_point;
    }
    const auto pack = [&](std::span<std::uint8_t> unpacked, std::span<std::byte> array) {
      const std::size_t row_bytes = PackedBytes(spec.bits, unpacked.size());
      PackBits(spec.bits, unpacked, array.subspan(r * row_bytes, row_bytes));
    };
    if (signed_codes) FlipTopBits(spec.bits, q);
    pack(codes, arrays[0]);
    if (!HasZeroPoints(spec)) continue;
    if (n_zero_points > n_groups) zero_points.back() = 8;
    if (signed_codes) FlipTopBits(spec.bits, zero_points);
    pack(zero_points, arrays[2]);
  }
}

template <typename Predicate>
bool FillsIntegers(const Encoding& encoding, Predicate predicate) noexcept {
  const auto* integer = std::get_if<IntegerEncoding>(&encoding);
  return integer != nullptr && predicate(integer->spec);
}

bool IsFloat32(const Encoding& encoding) noexcept {
  return FillsIntegers(encoding,
                       [](const IntegerSpec& spec) { return spec.float_type == FloatType::kF32; });
}

bool IsNotBFloat(const Encoding& encoding) noexcept {
  return FillsIntegers(encoding,
                       [](const IntegerSpec& spec) { return spec.float_type != FloatType::kBF16; });
}

bool IsBlocks(const Encoding& encoding) noexcept {
  return IsNotBFloat(encoding) && FillsIntegers(encoding, [](const IntegerSpec& spec) {
           return spec.group_size >= 16 && spec.group_size <= kMaxGroupSize;
         });
}

bool IsAffineBlocks(const Encoding& encoding) noexcept {
  return IsBlocks(encoding) && FillsIntegers(encoding, [](const IntegerSpec& spec) {
           return !spec.symmetric && spec.group_size % 16 == 0;
         });
}

}  // namespace

constinit const Method kNearest = {"nearest", IsFloat32, QuantizeRows<kNearestGroups>};
constinit const Method kMlas = {"mlas", IsBlocks, QuantizeRows<kMlasGroups>};
constinit const Method kRtn = {"rtn", IsBlocks, QuantizeRows<kRtnGroups>};
constinit const Method kKQuant = {"k_quant", IsAffineBlocks, QuantizeRows<kKQuantGroups>};
constinit const Method kGather = {"gather", IsBlocks, QuantizeRows<kGatherGroups>};
constinit const Method kNncf = {"nncf", IsNotBFloat, QuantizeRows<kNncfGroups>};

}  // namespace phiq
