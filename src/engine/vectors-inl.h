// What the engine's kernels share, once for each instruction set.
//
// Every instruction set gives the same bits. So a multiplication and an addition are fused or are
// not, whatever the processor has; no instruction approximates; and a sum over an array is 16
// running sums, of which element i belongs to number i mod 16, however wide the vectors are.

// Included by foreach_target.h once for each target: no ordinary include guard.
#if defined(PHIQ_ENGINE_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PHIQ_ENGINE_VECTORS_INL_H_
#undef PHIQ_ENGINE_VECTORS_INL_H_
#else
#define PHIQ_ENGINE_VECTORS_INL_H_
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "base/portable_math.h"

HWY_BEFORE_NAMESPACE();
namespace phiq::engine {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using F64 = hn::CappedTag<double, 16>;
inline constexpr F32 kF32;
inline constexpr F64 kF64;
using VF32 = hn::Vec<F32>;
using VF64 = hn::Vec<F64>;

inline constexpr std::size_t kRunningSums = 16;

// a * b + c, rounded once.
//
// Where there is no instruction: the product of two floats is exact in double. Its sum with c,
// rounded to odd (an inexact one gets the neighbour whose last bit is 1), becomes the right float
// in a second rounding, since double has more than two digits more (Boldo and Melquiond 2008).
#if HWY_NATIVE_FMA
HWY_INLINE VF32 Fma(VF32 a, VF32 b, VF32 c) { return hn::MulAdd(a, b, c); }
#elif HWY_TARGET == HWY_SCALAR
HWY_INLINE VF32 Fma(VF32 a, VF32 b, VF32 c) {
  const double product = static_cast<double>(a.raw) * static_cast<double>(b.raw);
  const double addend = static_cast<double>(c.raw);
  double sum = product + addend;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (addend - part);  // of the sum, exactly
  const auto bits = std::bit_cast<std::uint64_t>(sum);
  // NaN, of a sum that is not finite, is neither above nor below 0.
  if ((error > 0 || error < 0) && bits % 2 == 0)
    sum = std::bit_cast<double>((error > 0) == (sum > 0) ? bits + 1 : bits - 1);
  return VF32(static_cast<float>(sum));
}
#else
template <class D>
HWY_INLINE hn::Vec<D> SumRoundedToOdd(D d, hn::Vec<D> product, hn::Vec<D> addend) {
  const hn::RebindToSigned<D> di;
  const auto sum = hn::Add(product, addend);
  const auto part = hn::Sub(sum, product);
  const auto error = hn::Add(hn::Sub(product, hn::Sub(sum, part)), hn::Sub(addend, part));
  const auto is_inexact = hn::Or(hn::Gt(error, hn::Zero(d)), hn::Lt(error, hn::Zero(d)));
  const auto bits = hn::BitCast(di, sum);
  const auto one = hn::Set(di, 1);
  const auto is_even = hn::Eq(hn::And(bits, one), hn::Zero(di));
  // 1 where sum and error have the same sign, else -1.
  const auto step = hn::Or(hn::BroadcastSignBit(hn::BitCast(di, hn::Xor(error, sum))), one);
  const auto is_wrong = hn::And(is_even, hn::RebindMask(di, is_inexact));
  return hn::BitCast(d, hn::Add(bits, hn::IfThenElseZero(is_wrong, step)));
}

HWY_INLINE VF32 Fma(VF32 a, VF32 b, VF32 c) {
  const hn::Half<F32> half;
  const hn::Rebind<double, hn::Half<F32> > wide;
  const auto fma = [&](auto x, auto y, auto z) {
    const auto product = hn::Mul(hn::PromoteTo(wide, x), hn::PromoteTo(wide, y));
    return hn::DemoteTo(half, SumRoundedToOdd(wide, product, hn::PromoteTo(wide, z)));
  };
  return hn::Combine(kF32,
                     fma(hn::UpperHalf(half, a), hn::UpperHalf(half, b), hn::UpperHalf(half, c)),
                     fma(hn::LowerHalf(half, a), hn::LowerHalf(half, b), hn::LowerHalf(half, c)));
}
#endif

HWY_INLINE VF32 LoadAs(F32, const float* from) { return hn::LoadU(kF32, from); }
HWY_INLINE VF64 LoadAs(F64, const float* from) {
  return hn::PromoteTo(kF64, hn::LoadU(hn::Rebind<float, F64>(), from));
}

// out[i] = use(inputs[i]...) for n elements; the last ones go through buffers filled up with zeros.
template <class Use, class... Inputs>
HWY_INLINE void Map(std::size_t n, float* out, const Use& use, const Inputs*... inputs) {
  constexpr std::size_t kLanes = hn::MaxLanes(kF32);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    hn::StoreU(use(hn::LoadU(kF32, inputs + i)...), kF32, out + i);
  if (i == n) return;
  const auto load = [&](const float* input) {
    float buffer[kLanes] = {};
    std::memcpy(buffer, input + i, (n - i) * sizeof(float));
    return hn::LoadU(kF32, buffer);
  };
  float buffer[kLanes];
  hn::StoreU(use(load(inputs)...), kF32, buffer);
  std::memcpy(out + i, buffer, (n - i) * sizeof(float));
}

// The sum that sum = add(sum, inputs[i]...) makes: running sums from 0, then folded in halves.
template <class D, class Add, class... Inputs>
HWY_INLINE hn::TFromD<D> SumOf(D d, std::size_t n, const Add& add, const Inputs*... inputs) {
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  hn::TFromD<D> sums[kRunningSums];
  for (std::size_t first = 0; first < kRunningSums; first += kLanes) {
    auto sum = hn::Zero(d);
    std::size_t i = first;
    for (; i + kLanes <= n; i += kRunningSums) sum = add(sum, LoadAs(d, inputs + i)...);
    if (i < n) {
      const auto load = [&](const float* input) {
        float buffer[kLanes] = {};
        std::memcpy(buffer, input + i, (n - i) * sizeof(float));
        return LoadAs(d, buffer);
      };
      sum = hn::IfThenElse(hn::FirstN(d, n - i), add(sum, load(inputs)...), sum);
    }
    hn::StoreU(sum, d, sums + first);
  }
  for (std::size_t half = kRunningSums / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

// p 2^n, where `shifted` is n + magic, and so has n in its last bits. In two steps, as the product
// may be subnormal, and 2^n beyond the largest number.
template <class D>
HWY_INLINE hn::Vec<D> TimesTwoTo(D d, hn::Vec<D> p, hn::Vec<D> shifted, hn::Vec<D> magic) {
  constexpr bool kIsFloat = sizeof(hn::TFromD<D>) == sizeof(float);
  const hn::RebindToSigned<D> di;
  const auto n = hn::Sub(hn::BitCast(di, shifted), hn::BitCast(di, magic));
  const auto first = hn::ShiftRight<1>(n);
  const auto two_to = [&](auto power) {
    return hn::BitCast(d, hn::ShiftLeft < kIsFloat
                              ? 23
                              : 52 > (hn::Add(power, hn::Set(di, kIsFloat ? 127 : 1023))));
  };
  return hn::Mul(hn::Mul(p, two_to(first)), two_to(hn::Sub(n, first)));
}

// The argument of an exponential, cut to [low, high]; NaN stays. (What Min and Max make of NaN
// depends on the instruction set.)
template <class D>
HWY_INLINE hn::Vec<D> Cut(D d, hn::Vec<D> x, hn::TFromD<D> low, hn::TFromD<D> high) {
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, low)), hn::Set(d, low), x);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, high)), hn::Set(d, high), x);
}

// e^x within 1.5 units in the last place; 0 and infinity beyond float's range, NaN for NaN.
//
// x = n ln 2 + r with |r| <= 0.35, and e^r by its Taylor series up to r^7. In units of 2^-24, the
// last place of the least e^r: 1/4 for rounding r, 1/4 for e^r - 1, 1/2 for e^r, 0.1 for the
// series' rest; another half of the last place where the result is subnormal.
HWY_INLINE VF32 Exp(VF32 x) {
  x = Cut(kF32, x, -104.0F, 89.0F);
  const auto magic = hn::Set(kF32, 0x1.8p23F);  // what is added to it is rounded to an integer
  const auto shifted = Fma(x, hn::Set(kF32, 0x1.715476p0F), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = Fma(n, hn::Set(kF32, -0x1.62e430p-1F), x);
  r = Fma(n, hn::Set(kF32, 0x1.05c610p-29F), r);
  auto p = hn::Set(kF32, 1.0F / 5040);
  for (const float coefficient : {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F})
    p = Fma(p, r, hn::Set(kF32, coefficient));
  p = hn::Add(Fma(hn::Mul(p, r), r, r), hn::Set(kF32, 1.0F));
  return TimesTwoTo(kF32, p, shifted, magic);
}

// PortableExp of base/portable_math.h, to the bit.
HWY_INLINE VF64 Exp(VF64 x) {
  x = Cut(kF64, x, kExpLow, kExpHigh);
  const auto magic = hn::Set(kF64, kRoundMagic);
  const auto shifted = hn::Add(hn::Mul(x, hn::Set(kF64, kInverseLn2)), magic);
  const auto n = hn::Sub(shifted, magic);
  const auto r =
      hn::Sub(hn::Sub(x, hn::Mul(n, hn::Set(kF64, kLn2High))), hn::Mul(n, hn::Set(kF64, kLn2Low)));
  auto p = hn::Set(kF64, kExpSeries[0]);
  for (std::size_t i = 1; i < std::size(kExpSeries); ++i)
    p = hn::Add(hn::Mul(p, r), hn::Set(kF64, kExpSeries[i]));
  p = hn::Add(hn::Add(hn::Mul(hn::Mul(p, r), r), r), hn::Set(kF64, 1.0));
  return TimesTwoTo(kF64, p, shifted, magic);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace phiq::engine
HWY_AFTER_NAMESPACE();

#endif
