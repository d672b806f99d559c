// GGUF's types without a search: floats, and blocks of 32 (kernels/ggml_simple.cpp) with one scale
// from the largest weight or from the range, straight from what a checkpoint holds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/nearest_blocks.cpp"
#include <algorithm>
#include <cstring>
#include <limits>
#include <span>

#include "kernels/ggml_blocks.h"
#include "kernels/ggml_plain.h"
#include "kernels/ggml_search.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/ggml.h"
#include "kernels/simd/pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace pairs {
namespace {

#if HWY_TARGET == HWY_SCALAR

template <typename Block>
void EncodeNearest(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodePlain<Block>(x, n_blocks, out);
}

#else

constexpr std::size_t kRun = 32;
constexpr std::size_t kPairs = kRun / (2 * kLanes);  // of a block
// Scales of kLanes blocks are made at once.
constexpr std::size_t kBatch = kLanes;

// One block in pairs.
struct Run {
  Pair v[kPairs];
};

template <FloatType kType>
HWY_INLINE Run LoadRun(const std::byte* p) {
  Run run;
  for (std::size_t i = 0; i < kPairs; ++i)
    run.v[i] = LoadPair<kType>(p + i * 2 * kLanes * FloatBytes(kType));
  return run;
}

// The largest magnitude, by lanes. As integers, which compare as the floats do and are quicker.
HWY_INLINE I LargestBits(const Run& run) {
  I largest = hn::Zero(Ints());
  for (const Pair& pair : run.v) {
    const I magnitude_bits = SetInt(0x7FFFFFFF);
    const I even = hn::And(hn::BitCast(Ints(), pair.even), magnitude_bits);
    const I odd = hn::And(hn::BitCast(Ints(), pair.odd), magnitude_bits);
    largest = hn::Max(largest, hn::Max(even, odd));
  }
  return largest;
}

HWY_INLINE F Lowest(const Run& run) {
  F lowest = hn::Min(run.v[0].even, run.v[0].odd);
  for (std::size_t i = 1; i < kPairs; ++i)
    lowest = hn::Min(lowest, hn::Min(run.v[i].even, run.v[i].odd));
  return lowest;
}
HWY_INLINE F Highest(const Run& run) {
  F highest = hn::Max(run.v[0].even, run.v[0].odd);
  for (std::size_t i = 1; i < kPairs; ++i)
    highest = hn::Max(highest, hn::Max(run.v[i].even, run.v[i].odd));
  return highest;
}

// What the codes of each block of a batch are made with:  (x - origin) * inv_scale + offset.
// d and m as the block stores them.
struct Scales {
  alignas(32) float inv_scale[kBatch], offset[kBatch], origin[kBatch];
  alignas(32) std::uint32_t d[kBatch], m[kBatch];
};

HWY_INLINE void StoreHalves(F v, std::uint32_t* to) { hn::Store(FloatsToHalves(v), Words(), to); }

// 1 / d, or 0 for a d of 0. Of denormal d it is Inf, and the plain loops' codes are all 0 then: an
// offset of 0 instead makes them so.
HWY_INLINE void StoreInverse(F d, float offset, Scales& scales) {
  const F inverse = hn::Div(Set(1.0F), d);
  const Mask is_zero = hn::Eq(d, Set(0.0F));
  const Mask is_finite = IsFiniteLane(inverse);
  hn::Store(hn::IfThenElseZero(is_finite, inverse), Floats(), scales.inv_scale);
  hn::Store(hn::IfThenElseZero(hn::Or(is_finite, is_zero), Set(offset)), Floats(), scales.offset);
}

// The weights of one block as floats, in their order.
template <FloatType kType>
void RunInOrder(const std::byte* p, std::span<float, kRun> x) {
  for (std::size_t i = 0; i < kRun; ++i) x[i] = LoadFloat(kType, {p, kRun * FloatBytes(kType)}, i);
}

// The scales of a batch. False: not for this batch, as a range overflows.
template <FloatType kType>
HWY_INLINE bool FindSymmetric(const std::byte* p, float levels, float offset, Scales& scales) {
  F low[kBatch], high[kBatch];
  for (std::size_t b = 0; b < kBatch; ++b) {
    const Run run = LoadRun<kType>(p + b * kRun * FloatBytes(kType));
    low[b] = Lowest(run);
    high[b] = Highest(run);
  }
  const auto min = [](F a, F b) HWY_ATTR { return hn::Min(a, b); };
  const auto max = [](F a, F b) HWY_ATTR { return hn::Max(a, b); };
  const F lowest = ReduceEach(Floats(), low, min);
  const F highest = ReduceEach(Floats(), high, max);
  F extreme = hn::IfThenElse(hn::Gt(highest, hn::Neg(lowest)), highest, lowest);
  // Of +m and -m the first counts.
  const Mask is_tie = hn::Eq(highest, hn::Neg(lowest));
  if (!hn::AllFalse(Floats(), is_tie)) {
    alignas(32) float extremes[kBatch];
    alignas(32) float ties[kBatch];
    hn::Store(extreme, Floats(), extremes);
    hn::Store(hn::IfThenElseZero(is_tie, Set(1.0F)), Floats(), ties);
    for (std::size_t b = 0; b < kBatch; ++b) {
      if (ties[b] == 0.0F) continue;
      float x[kRun];
      RunInOrder<kType>(p + b * kRun * FloatBytes(kType), x);
      extremes[b] = SignedExtreme(x);
    }
    extreme = hn::Load(Floats(), extremes);
  }
  const F d = hn::Div(extreme, Set(levels));
  StoreHalves(d, scales.d);
  StoreInverse(d, offset, scales);
  hn::Store(Set(0.0F), Floats(), scales.origin);
  return true;
}

template <FloatType kType>
HWY_INLINE bool FindAffine(const std::byte* p, float last_code, Scales& scales) {
  F low[kBatch], high[kBatch];
  for (std::size_t b = 0; b < kBatch; ++b) {
    const Run run = LoadRun<kType>(p + b * kRun * FloatBytes(kType));
    low[b] = Lowest(run);
    high[b] = Highest(run);
  }
  const auto min = [](F a, F b) HWY_ATTR { return hn::Min(a, b); };
  const auto max = [](F a, F b) HWY_ATTR { return hn::Max(a, b); };
  const F lowest = ReduceEach(Floats(), low, min);
  const F highest = ReduceEach(Floats(), high, max);
  // Abs: of zeros of both signs the difference may be -0.
  const F d = hn::Div(hn::Abs(hn::Sub(highest, lowest)), Set(last_code));
  if (!hn::AllTrue(Floats(), IsFiniteLane(d))) return false;
  StoreHalves(d, scales.d);
  StoreHalves(lowest, scales.m);
  StoreInverse(d, 0.5F, scales);
  hn::Store(lowest, Floats(), scales.origin);
  // A lowest weight of 0 is stored with the sign of the first such.
  if (!hn::AllFalse(Floats(), hn::Eq(lowest, Set(0.0F)))) {
    for (std::size_t b = 0; b < kBatch; ++b) {
      if (scales.origin[b] != 0.0F) continue;
      float x[kRun];
      RunInOrder<kType>(p + b * kRun * FloatBytes(kType), x);
      scales.m[b] = FloatToFp16(*std::find(x, x + kRun, 0.0F));
    }
  }
  return true;
}

// Codes of block b as bytes, in their order.
template <FloatType kType>
HWY_INLINE void MakeCodes(const std::byte* p, const Scales& scales, std::size_t b, int last_code,
                          std::uint8_t* codes) {
  const Run run = LoadRun<kType>(p + b * kRun * FloatBytes(kType));
  const F origin = Set(scales.origin[b]);
  const F inv_scale = Set(scales.inv_scale[b]);
  const F offset = Set(scales.offset[b]);
  const I last = SetInt(last_code);
  const auto code = [&](F x) HWY_ATTR {
    const F v = hn::Add(hn::Mul(hn::Sub(x, origin), inv_scale), offset);
    return hn::Min(TruncateInRange(v), last);
  };
  IntPair q[kPairs];
  for (std::size_t i = 0; i < kPairs; ++i) q[i] = {code(run.v[i].even), code(run.v[i].odd)};
  for (std::size_t i = 0; i < kPairs; i += 2)
    hn::StoreU(JoinBytes(q[i], q[i + 1]), Bytes(), codes + i * 2 * kLanes);
}

using HalfBytes = hn::Simd<std::uint8_t, 16, 0>;

// Code e to nibble e / 16 of byte e % 16.
HWY_INLINE void PackNibbles(const std::uint8_t* codes, std::uint8_t* q) {
  const HalfBytes d;
  const auto nibble = hn::Set(d, std::uint8_t{15});
  const auto low = hn::And(hn::LoadU(d, codes), nibble);
  const auto high = hn::And(hn::LoadU(d, codes + 16), nibble);
  const hn::Repartition<std::uint16_t, HalfBytes> d16;
  const auto shifted = hn::BitCast(d, hn::ShiftLeft<4>(hn::BitCast(d16, high)));
  hn::StoreU(hn::Or(low, shifted), d, q);
}

// Bit 4 of code e to bit e.
HWY_INLINE void PackHighBits(const std::uint8_t* codes, std::uint8_t* qh) {
  const HalfBytes d;
  const auto bit = hn::Set(d, std::uint8_t{16});
  for (std::size_t i = 0; i < 2; ++i) {
    std::uint8_t bits[8];
    hn::StoreMaskBits(d, hn::TestBit(hn::LoadU(d, codes + 16 * i), bit), bits);
    std::memcpy(qh + 2 * i, bits, 2);
  }
}

template <typename Block>
struct Kind;
template <>
struct Kind<BlockQ4_0> {
  static constexpr float kLevels = -8.0F, kOffset = 8.5F;
  static constexpr int kLastCode = 15;
};
template <>
struct Kind<BlockQ5_0> {
  static constexpr float kLevels = -16.0F, kOffset = 16.5F;
  static constexpr int kLastCode = 31;
};
template <>
struct Kind<BlockQ4_1> {
  static constexpr int kLastCode = 15;
};
template <>
struct Kind<BlockQ5_1> {
  static constexpr int kLastCode = 31;
};

template <FloatType kType, typename Block>
HWY_INLINE void EncodeBatch(const std::byte* p, Block* blocks) {
  using K = Kind<Block>;
  Scales scales;
  bool is_done = true;
  if constexpr (requires { blocks->m; }) {
    is_done = FindAffine<kType>(p, static_cast<float>(K::kLastCode), scales);
  } else {
    is_done = FindSymmetric<kType>(p, K::kLevels, K::kOffset, scales);
  }
  if (!is_done) {
    return EncodePlain<Block>({kType, p}, kBatch, reinterpret_cast<std::byte*>(blocks));
  }
  for (std::size_t b = 0; b < kBatch; ++b) {
    Block& block = blocks[b];
    alignas(32) std::uint8_t codes[kRun];
    MakeCodes<kType>(p, scales, b, K::kLastCode, codes);
    block.d = static_cast<Half>(scales.d[b]);
    if constexpr (requires { block.m; }) block.m = static_cast<Half>(scales.m[b]);
    PackNibbles(codes, block.q);
    if constexpr (requires { block.qh; }) PackHighBits(codes, block.qh);
  }
}

template <FloatType kType>
HWY_INLINE void EncodeBatch(const std::byte* p, BlockQ8_0* blocks) {
  I largest[kBatch];
  for (std::size_t b = 0; b < kBatch; ++b)
    largest[b] = LargestBits(LoadRun<kType>(p + b * kRun * FloatBytes(kType)));
  const I amax = ReduceEach(Ints(), largest, [](I a, I b) HWY_ATTR { return hn::Max(a, b); });
  Scales scales;
  const F d = hn::Div(hn::BitCast(Floats(), amax), Set(127.0F));
  StoreHalves(d, scales.d);
  StoreInverse(d, 0.0F, scales);
  for (std::size_t b = 0; b < kBatch; ++b) {
    const Run run = LoadRun<kType>(p + b * kRun * FloatBytes(kType));
    const F inv_scale = Set(scales.inv_scale[b]);
    IntPair q[kPairs];
    for (std::size_t i = 0; i < kPairs; ++i) {
      q[i] = {RoundHalfAway(hn::Mul(run.v[i].even, inv_scale)),
              RoundHalfAway(hn::Mul(run.v[i].odd, inv_scale))};
    }
    blocks[b].d = static_cast<Half>(scales.d[b]);
    for (std::size_t i = 0; i < kPairs; i += 2) {
      hn::StoreU(JoinBytes(q[i], q[i + 1]), Bytes(),
                 reinterpret_cast<std::uint8_t*>(blocks[b].q) + i * 2 * kLanes);
    }
  }
}

template <FloatType kType, typename Block>
void EncodeFrom(const std::byte* p, std::size_t n_blocks, std::byte* out) {
  constexpr std::size_t kBatchBytes = kBatch * kRun * FloatBytes(kType);
  std::size_t b = 0;
  for (; b + kBatch <= n_blocks; b += kBatch, p += kBatchBytes) {
    Block blocks[kBatch];
    EncodeBatch<kType>(p, blocks);
    std::memcpy(out + b * sizeof(Block), blocks, sizeof(blocks));
  }
  EncodePlain<Block>({kType, p}, n_blocks - b, out + b * sizeof(Block));
}

template <typename Block>
void EncodeNearest(const Weights& x, std::size_t n_blocks, std::byte* out) {
  switch (x.type) {
    case FloatType::kF32:
      return EncodeFrom<FloatType::kF32, Block>(x.data, n_blocks, out);
    case FloatType::kF16:
      return EncodeFrom<FloatType::kF16, Block>(x.data, n_blocks, out);
    case FloatType::kBF16:
      return EncodeFrom<FloatType::kBF16, Block>(x.data, n_blocks, out);
  }
}

#endif

}  // namespace
}  // namespace pairs

namespace {

using pairs::EncodeNearest;

void EncodeQ4_0(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeNearest<BlockQ4_0>(x, n_blocks, out);
}
void EncodeQ4_1(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeNearest<BlockQ4_1>(x, n_blocks, out);
}
void EncodeQ5_0(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeNearest<BlockQ5_0>(x, n_blocks, out);
}
void EncodeQ5_1(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeNearest<BlockQ5_1>(x, n_blocks, out);
}
void EncodeQ8_0(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeNearest<BlockQ8_0>(x, n_blocks, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(EncodeQ4_0);
HWY_EXPORT(EncodeQ4_1);
HWY_EXPORT(EncodeQ5_0);
HWY_EXPORT(EncodeQ5_1);
HWY_EXPORT(EncodeQ8_0);
}  // namespace

namespace simd {

void EncodeQ4_0(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ4_0)(x, n_blocks, out);
}
void EncodeQ4_1(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ4_1)(x, n_blocks, out);
}
void EncodeQ5_0(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ5_0)(x, n_blocks, out);
}
void EncodeQ5_1(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ5_1)(x, n_blocks, out);
}
void EncodeQ8_0(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ8_0)(x, n_blocks, out);
}

}  // namespace simd
}  // namespace phiq
#endif
