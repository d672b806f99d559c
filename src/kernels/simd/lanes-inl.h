// What the vector kernels share: the widths of a batch, weights to floats, transposition.
// Included once for every instruction set, inside no namespace.
//
// The rules that keep every kernel's bytes those of the plain loops: no sum changes its order (a
// lane has a sub-block of its own), no fused multiply-add (this folder is compiled without
// contraction), true division, and masks instead of Max where a NaN may come.

#include <hwy/highway.h>

#if defined(PHIQ_KERNELS_SIMD_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PHIQ_KERNELS_SIMD_LANES_INL_H_
#undef PHIQ_KERNELS_SIMD_LANES_INL_H_
#else
#define PHIQ_KERNELS_SIMD_LANES_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/ggml_plain.h"
#include "kernels/simd/weights.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Ints = hn::Rebind<std::int32_t, Floats>;
using Words = hn::Rebind<std::uint32_t, Floats>;
using Bytes = hn::Rebind<std::uint8_t, Floats>;  // as many as there are floats in a vector
using F = hn::Vec<Floats>;
using I = hn::Vec<Ints>;
using W = hn::Vec<Words>;
using FloatMask = hn::Mask<Floats>;

inline constexpr std::size_t kLanes = hn::MaxLanes(Floats());
// Vectors side by side: a sum is a chain of additions that wait for each other, and several chains
// keep the units busy.
inline constexpr std::size_t kSide = kLanes == 16 ? 2 : 4;
// Sub-blocks that a search works on at once.
inline constexpr std::size_t kBatch = kLanes * kSide;

HWY_INLINE F Set(float value) { return hn::Set(Floats(), value); }
HWY_INLINE F Load(const float* p) { return hn::Load(Floats(), p); }
HWY_INLINE void Store(F v, float* p) { hn::Store(v, Floats(), p); }

// Halves to float, denormals, Inf and NaN included.
HWY_INLINE F HalvesToFloats(W halves) {
#if HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, Floats> d16;
  const hn::Rebind<std::uint16_t, Floats> du16;
  return hn::PromoteTo(Floats(), hn::BitCast(d16, hn::TruncateTo(du16, halves)));
#else
  const Words dw;
  const W sign = hn::ShiftLeft<16>(hn::And(halves, hn::Set(dw, 0x8000U)));
  const W magnitude = hn::ShiftLeft<13>(hn::And(halves, hn::Set(dw, 0x7FFFU)));
  // The exponent is 112 too small, in denormals too: the product is exact.
  const W scaled = hn::BitCast(dw, hn::Mul(hn::BitCast(Floats(), magnitude), Set(0x1p112F)));
  const auto is_finite = hn::Lt(hn::BitCast(Ints(), magnitude), hn::Set(Ints(), 0x0F800000));
  const W special = hn::Or(magnitude, hn::Set(dw, 0x7F800000U));
  const W value = hn::IfThenElse(hn::RebindMask(dw, is_finite), scaled, special);
  return hn::BitCast(Floats(), hn::Or(value, sign));
#endif
}

// A vector of weights, in their order.
template <FloatType kType>
HWY_INLINE F LoadWeights(const std::byte* p) {
  if constexpr (kType == FloatType::kF32) {
    return hn::LoadU(Floats(), reinterpret_cast<const float*>(p));
  } else {
    const hn::Rebind<std::uint16_t, Floats> du16;
    const W words =
        hn::PromoteTo(Words(), hn::LoadU(du16, reinterpret_cast<const std::uint16_t*>(p)));
    if constexpr (kType == FloatType::kF16) return HalvesToFloats(words);
    return hn::BitCast(Floats(), hn::ShiftLeft<16>(words));
  }
}

template <FloatType kType>
HWY_INLINE void CopyAsFloats(const std::byte* from, std::size_t n, float* to) {
  for (std::size_t i = 0; i < n; i += kLanes)
    Store(LoadWeights<kType>(from + i * FloatBytes(kType)), to + i);
}

// n: a multiple of 16.
HWY_INLINE void CopyAsFloats(const Weights& x, std::size_t n, float* to) {
  switch (x.type) {
    case FloatType::kF32:
      return CopyAsFloats<FloatType::kF32>(x.data, n, to);
    case FloatType::kF16:
      return CopyAsFloats<FloatType::kF16>(x.data, n, to);
    case FloatType::kBF16:
      return CopyAsFloats<FloatType::kBF16>(x.data, n, to);
  }
}

// Four floats of each of kLanes / 4 runs.
HWY_INLINE F LoadFours(const float* x, [[maybe_unused]] std::size_t stride) {
  const hn::Simd<float, 4, 0> d4;
#if HWY_TARGET <= HWY_AVX3
  const hn::Simd<float, 8, 0> d8;
  return hn::Combine(Floats(),
                     hn::Combine(d8, hn::Load(d4, x + 3 * stride), hn::Load(d4, x + 2 * stride)),
                     hn::Combine(d8, hn::Load(d4, x + stride), hn::Load(d4, x)));
#elif HWY_TARGET <= HWY_AVX2
  return hn::Combine(Floats(), hn::Load(d4, x + stride), hn::Load(d4, x));
#else
  return hn::Load(d4, x);
#endif
}

// rows: [kBatch, kRun], one sub-block after the other; columns: [kRun, kBatch], a lane to each.
template <std::size_t kRun>
HWY_INLINE void Transpose(const float* HWY_RESTRICT rows, float* HWY_RESTRICT columns) {
  const Floats df;
  const hn::Repartition<std::uint64_t, Floats> d64;
  for (std::size_t first = 0; first < kBatch; first += kLanes) {
    for (std::size_t e = 0; e < kRun; e += 4) {
      const float* x = rows + first * kRun + e;
      const F v0 = LoadFours(x, 4 * kRun);
      const F v1 = LoadFours(x + kRun, 4 * kRun);
      const F v2 = LoadFours(x + 2 * kRun, 4 * kRun);
      const F v3 = LoadFours(x + 3 * kRun, 4 * kRun);
      const auto low01 = hn::BitCast(d64, hn::InterleaveLower(df, v0, v1));
      const auto low23 = hn::BitCast(d64, hn::InterleaveLower(df, v2, v3));
      const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(df, v0, v1));
      const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(df, v2, v3));
      float* y = columns + e * kBatch + first;
      Store(hn::BitCast(df, hn::InterleaveLower(d64, low01, low23)), y);
      Store(hn::BitCast(df, hn::InterleaveUpper(d64, low01, low23)), y + kBatch);
      Store(hn::BitCast(df, hn::InterleaveLower(d64, high01, high23)), y + 2 * kBatch);
      Store(hn::BitCast(df, hn::InterleaveUpper(d64, high01, high23)), y + 3 * kBatch);
    }
  }
}

// The loop that all searches share. Some blocks at a time become floats in the first cache and are
// transposed, so that each of their sub-blocks is a lane. `search` reads the columns of all lanes;
// blocks that it refuses are left to the plain loops. `encode` makes one block of its weights and
// what was found for its lanes, from `first_lane` on. Both are lambdas with HWY_ATTR.
//
// Shapes    columns: [kRun, kBatch].
template <typename Block, std::size_t kRun, typename Search, typename Encode>
HWY_INLINE void EncodeBatches(const Weights& x, std::size_t n_blocks, std::byte* out,
                              float* columns, const Search& search, const Encode& encode) {
  constexpr std::size_t kRuns = Block::kSize / kRun;
  constexpr std::size_t kBlocks = kBatch / kRuns;
  alignas(64) float rows[kBatch * kRun];
  for (std::size_t b = 0; b < n_blocks; b += kBlocks) {
    const std::size_t n = std::min(kBlocks, n_blocks - b);
    CopyAsFloats(x.From(Block::kSize * b), Block::kSize * n, rows);
    std::fill(rows + Block::kSize * n, rows + Block::kSize * kBlocks, 0.0F);
    std::byte* const to = out + b * sizeof(Block);
    Transpose<kRun>(rows, columns);
    if (!search()) {
      EncodePlain<Block>({rows, Block::kSize * n}, {to, n * sizeof(Block)});
      continue;
    }
    for (std::size_t i = 0; i < n; ++i) {
      Block block{};
      encode(rows + Block::kSize * i, kRuns * i, block);
      std::memcpy(to + i * sizeof(Block), &block, sizeof(Block));
    }
  }
}

// NearestInt for lanes within [first, last] after the cut; the caller has seen that |v| < 2^22.
// `first` may not be so large that rounding leaves [-2^22, 2^22).
HWY_INLINE F RoundInside(F v, F first, F last) {
  const F shift = Set(12582912.0F);  // 1.5 * 2^23: no fraction bits are left of the sum
  return hn::Sub(hn::Add(hn::Min(hn::Max(v, first), last), shift), shift);
}

// NearestInt for every float, then the cut to [first, last].
HWY_INLINE I RoundAndCut(F v, I first, I last) {
  const Ints di;
  const I bits = hn::BitCast(di, hn::Add(v, Set(12582912.0F)));
  const I whole = hn::Sub(hn::And(bits, hn::Set(di, 0x007FFFFF)), hn::Set(di, 0x00400000));
  return hn::Min(hn::Max(whole, first), last);
}

// The low bytes.
HWY_INLINE void StoreBytes(I v, std::uint8_t* p) {
  hn::StoreU(hn::TruncateTo(Bytes(), hn::BitCast(Words(), v)), Bytes(), p);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#endif  // toggle
