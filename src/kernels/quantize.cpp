// Rows to groups of integer codes and back; the arithmetic of a group is in the files of
// integer_methods.h.
#include "phiq/quantize.h"

#include <algorithm>
#include <cassert>

#include "kernels/integer_methods.h"

namespace phiq {
namespace {

GroupScale QuantizeGroup(const IntegerSpec& spec, std::span<const float> x,
                         std::span<std::uint8_t> codes) noexcept {
  switch (spec.method) {
    case IntegerMethod::kNearest:
      return QuantizeNearest(spec, x, codes);
    case IntegerMethod::kMlas:
      return QuantizeMlas(spec, x, codes);
    case IntegerMethod::kRtn:
      return QuantizeRtn(spec, x, codes);
    case IntegerMethod::kKQuant:
      return QuantizeKQuant(spec, x, codes);
    case IntegerMethod::kGather:
      return QuantizeGather(spec, x, codes);
    case IntegerMethod::kNncf:
      return QuantizeNncf(spec, x, codes);
  }
  return {};
}

// onnxruntime's "rtn" and "k_quant" see the zeros that fill a short last group.
bool SeesPadding(IntegerMethod method) noexcept {
  return method == IntegerMethod::kRtn || method == IntegerMethod::kKQuant;
}

// NNCF's codes are those of float32 scales and weights.
bool RoundsWeights(const IntegerSpec& spec) noexcept {
  return spec.float_type != FloatType::kF32 && spec.method != IntegerMethod::kNncf;
}

// A group as its method wants it: rounded to float_type and padded with zeros.
GroupScale QuantizePreparedGroup(const IntegerSpec& spec, std::span<const float> x,
                                 std::span<std::uint8_t> codes) noexcept {
  const std::size_t size = SeesPadding(spec.method) ? spec.group_size : x.size();
  if (!RoundsWeights(spec) && size == x.size()) return QuantizeGroup(spec, x, codes);
  assert(size <= kMaxGroupSize);
  float prepared[kMaxGroupSize];
  std::uint8_t prepared_codes[kMaxGroupSize];
  for (std::size_t c = 0; c < x.size(); ++c) prepared[c] = RoundTo(spec.float_type, x[c]);
  std::fill(prepared + x.size(), prepared + size, 0.0F);
  const GroupScale group = QuantizeGroup(spec, {prepared, size}, {prepared_codes, size});
  std::copy_n(prepared_codes, x.size(), codes.begin());
  return group;
}

}  // namespace

std::size_t GroupCount(const IntegerSpec& spec, std::size_t n) noexcept {
  if (spec.group_size == 0) return 1;
  return n / spec.group_size + (n % spec.group_size != 0 ? 1 : 0);
}

void QuantizeRow(const IntegerSpec& spec, std::span<const float> x, std::span<std::uint8_t> codes,
                 std::span<float> scales, std::span<std::uint8_t> zero_points) noexcept {
  assert(spec.bits == 4 || spec.bits == 8);
  assert(spec.method == IntegerMethod::kNearest ? spec.float_type == FloatType::kF32
                                                : spec.float_type != FloatType::kBF16);
  assert(spec.method == IntegerMethod::kNearest || spec.method == IntegerMethod::kNncf ||
         (spec.group_size >= 16 && spec.group_size <= kMaxGroupSize));
  assert(!x.empty() && codes.size() == x.size());
  assert(scales.size() == GroupCount(spec, x.size()) && zero_points.size() == scales.size());
  const std::size_t group_size = spec.group_size == 0 ? x.size() : spec.group_size;
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const std::size_t begin = g * group_size;
    const std::size_t size = std::min(group_size, x.size() - begin);
    const GroupScale group =
        QuantizePreparedGroup(spec, x.subspan(begin, size), codes.subspan(begin, size));
    scales[g] = group.scale;
    zero_points[g] = group.zero_point;
  }
}

void DequantizeRow(const IntegerSpec& spec, std::span<const std::uint8_t> codes,
                   std::span<const float> scales, std::span<const std::uint8_t> zero_points,
                   std::span<float> x) noexcept {
  assert(x.size() == codes.size());
  assert(scales.size() == GroupCount(spec, x.size()) && zero_points.size() == scales.size());
  const std::size_t group_size = spec.group_size == 0 ? x.size() : spec.group_size;
  const std::uint8_t* __restrict in = codes.data();
  float* __restrict out = x.data();
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const std::size_t begin = g * group_size;
    const std::size_t end = begin + std::min(group_size, x.size() - begin);
    const float scale = scales[g];
    const int zero_point = zero_points[g];
    for (std::size_t c = begin; c < end; ++c)
      out[c] = scale * static_cast<float>(in[c] - zero_point);
  }
}

void PackNibbles(std::span<const std::uint8_t> codes, std::span<std::byte> packed) noexcept {
  assert(packed.size() == (codes.size() + 1) / 2);
  const std::uint8_t* __restrict in = codes.data();
  std::byte* __restrict out = packed.data();
  const std::size_t n_pairs = codes.size() / 2;
  for (std::size_t i = 0; i < n_pairs; ++i)
    out[i] = static_cast<std::byte>((in[2 * i] & 15) | (in[2 * i + 1] << 4));
  if (codes.size() % 2 != 0) out[n_pairs] = static_cast<std::byte>(in[2 * n_pairs] & 15);
}

void UnpackNibbles(std::span<const std::byte> packed, std::span<std::uint8_t> codes) noexcept {
  assert(packed.size() == (codes.size() + 1) / 2);
  const std::byte* __restrict in = packed.data();
  std::uint8_t* __restrict out = codes.data();
  const std::size_t n_pairs = codes.size() / 2;
  for (std::size_t i = 0; i < n_pairs; ++i) {
    out[2 * i] = std::to_integer<std::uint8_t>(in[i] & std::byte{15});
    out[2 * i + 1] = std::to_integer<std::uint8_t>(in[i] >> 4);
  }
  if (codes.size() % 2 != 0)
    out[2 * n_pairs] = std::to_integer<std::uint8_t>(in[n_pairs] & std::byte{15});
}

}  // namespace phiq
