// What the kernels that round to nearest share. They take weights in pairs: a word of 32 bits holds
// two halves, of which each becomes a float without a shuffle, and codes go back the same way, as
// even | odd << bits. So a vector has either the even or the odd ones of a run.
// Included once for every instruction set, inside no namespace.
#include "kernels/simd/lanes-inl.h"

#if defined(PHIQ_KERNELS_SIMD_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PHIQ_KERNELS_SIMD_PAIRS_INL_H_
#undef PHIQ_KERNELS_SIMD_PAIRS_INL_H_
#else
#define PHIQ_KERNELS_SIMD_PAIRS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// At most eight lanes: a block of 32 weights is then two pairs of vectors or more. Memory bounds
// these kernels, not the width of vectors.
namespace pairs {

using Floats = hn::CappedTag<float, 8>;
using Ints = hn::Rebind<std::int32_t, Floats>;
using Words = hn::Rebind<std::uint32_t, Floats>;
using Shorts = hn::Repartition<std::uint16_t, Floats>;
using Bytes = hn::Repartition<std::uint8_t, Floats>;
using F = hn::Vec<Floats>;
using I = hn::Vec<Ints>;
using W = hn::Vec<Words>;
using Mask = hn::Mask<Floats>;

inline constexpr std::size_t kLanes = hn::MaxLanes(Floats());

struct Pair {
  F even, odd;
};
struct IntPair {
  I even, odd;
};

HWY_INLINE F Set(float v) { return hn::Set(Floats(), v); }
HWY_INLINE I SetInt(std::int32_t v) { return hn::Set(Ints(), v); }
HWY_INLINE W Bits(F v) { return hn::BitCast(Words(), v); }
HWY_INLINE F FromBits(W v) { return hn::BitCast(Floats(), v); }

// Halves (in the low bits of words) to float, denormals, Inf and NaN included.
HWY_INLINE F HalvesToFloats(W halves) {
  const W magnitude = hn::ShiftLeft<13>(hn::And(halves, hn::Set(Words(), 0x7FFFU)));
  const W sign = hn::ShiftLeft<16>(hn::And(halves, hn::Set(Words(), 0x8000U)));
  // The exponent is 112 too small, in denormals too: the product is exact.
  const W scaled = Bits(hn::Mul(FromBits(magnitude), Set(0x1p112F)));
  const auto is_finite = hn::Lt(hn::BitCast(Ints(), magnitude), SetInt(0x0F800000));
  const W special = hn::Or(magnitude, hn::Set(Words(), 0x7F800000U));
  return FromBits(
      hn::Or(hn::IfThenElse(hn::RebindMask(Words(), is_finite), scaled, special), sign));
}

// FloatToFp16, in the low bits of words. Requires no NaN.
HWY_INLINE W FloatsToHalves(F v) {
  const I bits = hn::BitCast(Ints(), v);
  const I magnitude = hn::And(bits, SetInt(0x7FFFFFFF));
  const I sign = hn::And(hn::ShiftRight<16>(bits), SetInt(0x8000));
  const I odd = hn::And(hn::ShiftRight<13>(magnitude), SetInt(1));
  const I rounded = hn::Add(hn::Add(magnitude, SetInt(0xFFF)), odd);
  const I normal = hn::ShiftRight<13>(hn::Sub(rounded, SetInt(0x38000000)));
  // Adding 0.5 lets float's own rounding do that of a subnormal half.
  const I shifted = hn::BitCast(Ints(), hn::Add(hn::BitCast(Floats(), magnitude), Set(0.5F)));
  const I subnormal = hn::Sub(shifted, SetInt(0x3F000000));
  const I finite = hn::IfThenElse(hn::Lt(magnitude, SetInt(0x38800000)), subnormal, normal);
  const I half = hn::IfThenElse(hn::Lt(magnitude, SetInt(0x477FF000)), finite, SetInt(0x7C00));
  return hn::BitCast(Words(), hn::Or(half, sign));
}

// FloatToBf16, in the high bits of words, with dirt below. Requires no NaN.
HWY_INLINE W FloatsToHighBf16(F v) {
  const W bits = Bits(v);
  const W odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(Words(), 1U));
  return hn::Add(hn::Add(bits, hn::Set(Words(), 0x7FFFU)), odd);
}

// 2 * kLanes weights.
template <FloatType kType>
HWY_INLINE Pair LoadPair(const std::byte* p) {
  if constexpr (kType == FloatType::kF32) {
    const F low = hn::LoadU(Floats(), reinterpret_cast<const float*>(p));
    const F high = hn::LoadU(Floats(), reinterpret_cast<const float*>(p) + kLanes);
    return {hn::ConcatEven(Floats(), high, low), hn::ConcatOdd(Floats(), high, low)};
  } else {
    const W words = hn::LoadU(Words(), reinterpret_cast<const std::uint32_t*>(p));
    const W high = hn::Set(Words(), 0xFFFF0000U);
    if constexpr (kType == FloatType::kBF16)
      return {FromBits(hn::ShiftLeft<16>(words)), FromBits(hn::And(words, high))};
    return {HalvesToFloats(words), HalvesToFloats(hn::ShiftRight<16>(words))};
  }
}

// Numbers below 2^16 of 4 * kLanes weights, as they follow each other: the low bytes.
HWY_INLINE hn::Vec<Bytes> JoinBytes(IntPair first, IntPair second) {
  const I low = hn::Or(hn::And(first.even, SetInt(0xFF)), hn::ShiftLeft<8>(first.odd));
  const I high = hn::Or(hn::And(second.even, SetInt(0xFF)), hn::ShiftLeft<8>(second.odd));
  const auto shorts =
      hn::ConcatEven(Shorts(), hn::BitCast(Shorts(), high), hn::BitCast(Shorts(), low));
  return hn::BitCast(Bytes(), shorts);
}

// kLanes vectors to one: lane i is `op` over the lanes of v[i].
template <typename D, typename V, typename Op>
HWY_INLINE V ReduceEach(D d, const V* v, Op op) {
  const hn::Repartition<std::uint64_t, D> d64;
  const auto four = [&](const V* x) HWY_ATTR {
    const V a = op(hn::InterleaveLower(d, x[0], x[1]), hn::InterleaveUpper(d, x[0], x[1]));
    const V b = op(hn::InterleaveLower(d, x[2], x[3]), hn::InterleaveUpper(d, x[2], x[3]));
    const auto a64 = hn::BitCast(d64, a);
    const auto b64 = hn::BitCast(d64, b);
    return op(hn::BitCast(d, hn::InterleaveLower(d64, a64, b64)),
              hn::BitCast(d, hn::InterleaveUpper(d64, a64, b64)));
  };
  if constexpr (kLanes == 4) {
    return four(v);
  } else {
    const V low = four(v);
    const V high = four(v + 4);
    return op(hn::ConcatLowerLower(d, high, low), hn::ConcatUpperUpper(d, high, low));
  }
}

// Towards zero. Requires |v| < 2^31: ConvertTo mends what lies beyond, which takes more operations
// than the conversion.
HWY_INLINE I TruncateInRange(F v) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  return I{_mm256_cvttps_epi32(v.raw)};
#elif HWY_ARCH_X86 && HWY_TARGET < HWY_EMU128
  return I{_mm_cvttps_epi32(v.raw)};
#else
  return hn::ConvertTo(Ints(), v);
#endif
}

// Nearest integer, ties to even. Requires |v| < 2^22: the sum has no fraction bits left.
HWY_INLINE I RoundHalfEven(F v) {
  const I bits = hn::BitCast(Ints(), hn::Add(v, Set(12582912.0F)));  // 1.5 * 2^23
  return hn::Sub(bits, SetInt(0x4B400000));
}

// Nearest integer, ties away from zero. Requires |v| < 2^22.
HWY_INLINE I RoundHalfAway(F v) {
  // The float below 0.5: with 0.5 itself 0.49999997 would become 1.
  return TruncateInRange(hn::Add(v, hn::CopySign(Set(0.49999997F), v)));
}

HWY_INLINE Mask IsFiniteLane(F v) {
  return hn::Lt(hn::Abs(v), Set(std::numeric_limits<float>::infinity()));
}

}  // namespace pairs

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#endif  // toggle
