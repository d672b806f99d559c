// The formulas of base/portable_math.cpp, an angle a lane: each operation is rounded as there.
// Tables of a long context have ten million angles.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/sines.cpp"
#include "kernels/simd/sines.h"

#include <cstdint>

#include "base/portable_math.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

template <bool kCosine>
void Plain(const float* angles, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(kCosine ? PortableCos(angles[i]) : PortableSin(angles[i]));
}

#if HWY_TARGET == HWY_SCALAR

template <bool kCosine>
void SinesOfQuarters(const float* angles, std::size_t n, float* out) {
  Plain<kCosine>(angles, n, out);
}

#else

using Doubles = hn::CappedTag<double, 8>;
using D = hn::Vec<Doubles>;

HWY_INLINE D SetDouble(double v) { return hn::Set(Doubles(), v); }

// Those of angles plus a quarter turn for cosines.
template <bool kCosine>
void SinesOfQuarters(const float* angles, std::size_t n, float* out) {
  const Doubles d;
  const hn::Rebind<std::uint64_t, Doubles> du;
  const hn::Rebind<float, Doubles> df;
  const D magic = SetDouble(kRoundMagic);
  std::size_t i = 0;
  for (; i + hn::MaxLanes(d) <= n; i += hn::MaxLanes(d)) {
    const D x = hn::PromoteTo(d, hn::LoadU(df, angles + i));
    const D shifted = hn::Add(hn::Mul(x, SetDouble(kInverseHalfPi)), magic);
    const D turns = hn::Sub(shifted, magic);
    D r = hn::Sub(x, hn::Mul(turns, SetDouble(kHalfPi1)));
    r = hn::Sub(r, hn::Mul(turns, SetDouble(kHalfPi2)));
    r = hn::Sub(r, hn::Mul(turns, SetDouble(kHalfPi3)));
    const D z = hn::Mul(r, r);
    const auto quarters = hn::Add(hn::BitCast(du, shifted), hn::Set(du, kCosine ? 1U : 0U));
    const auto odd = hn::And(quarters, hn::Set(du, 1U));
    const auto is_sine = hn::RebindMask(d, hn::Eq(odd, hn::Zero(du)));
    const auto of_both = [&](std::size_t k) HWY_ATTR {
      return hn::IfThenElse(is_sine, SetDouble(kSinSeries[k]), SetDouble(kCosSeries[k]));
    };
    D sum = of_both(0);
    for (std::size_t k = 1; k < 8; ++k) sum = hn::Add(hn::Mul(sum, z), of_both(k));
    // The first term, of which all others are multiples.
    const D first = hn::IfThenElse(is_sine, r, SetDouble(1.0));
    const D value = hn::Add(hn::Mul(hn::Mul(sum, z), first), first);
    const auto sign = hn::ShiftLeft<62>(hn::And(quarters, hn::Set(du, 2U)));
    hn::StoreU(hn::DemoteTo(df, hn::Xor(value, hn::BitCast(d, sign))), df, out + i);
  }
  Plain<kCosine>(angles + i, n - i, out + i);
}

#endif

void SinesOf(const float* angles, std::size_t n, float* out) {
  SinesOfQuarters<false>(angles, n, out);
}
void CosinesOf(const float* angles, std::size_t n, float* out) {
  SinesOfQuarters<true>(angles, n, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(SinesOf);
HWY_EXPORT(CosinesOf);
}  // namespace

namespace simd {

void SinesOf(const float* angles, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SinesOf)(angles, n, out);
}
void CosinesOf(const float* angles, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(CosinesOf)(angles, n, out);
}

}  // namespace simd
}  // namespace phiq
#endif
