// Which level is nearest (kernels/grid.h), for a vector of weights. Included once for every
// instruction set, inside no namespace.

#include <hwy/highway.h>

#if defined(PHIQ_KERNELS_SIMD_LEVELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PHIQ_KERNELS_SIMD_LEVELS_INL_H_
#undef PHIQ_KERNELS_SIMD_LEVELS_INL_H_
#else
#define PHIQ_KERNELS_SIMD_LEVELS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>

#include "kernels/ggml_blocks.h"
#include "kernels/grid.h"
#include "kernels/small_floats.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace levels {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
inline constexpr Floats kFloats;
using F = hn::Vec<Floats>;
using Mask = hn::Mask<Floats>;
inline constexpr std::size_t kLanes = hn::MaxLanes(kFloats);

HWY_INLINE F Set(float value) { return hn::Set(kFloats, value); }

// v cut to [low, high]; low of NaN.
HWY_INLINE F Cut(F v, F low, F high) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  // Which are these comparisons in one instruction; elsewhere they do other things to NaN.
  return hn::Min(hn::Max(v, low), high);
#else
  const F above = hn::IfThenElse(hn::Gt(v, low), v, low);
  return hn::IfThenElse(hn::Lt(above, high), above, high);
#endif
}

// Nearest integer, ties to even, of |v| < 2^22.
HWY_INLINE F NearestInteger(F v) {
  const F magic = Set(12582912.0F);  // 1.5 * 2^23: no fraction bits are left of the sum
  return hn::Sub(hn::Add(v, magic), magic);
}

// 1 / scale; 0 where that is not finite.
HWY_INLINE F Inverse(F scale) {
  const F inverse = hn::Div(Set(1.0F), scale);
  return hn::IfThenElseZero(hn::Le(hn::Abs(inverse), Set(std::numeric_limits<float>::max())),
                            inverse);
}

struct Nearest {
  F code;
  F level;
};

// low, high: of kIntegers the first and the last level.
template <Levels kLevels>
HWY_INLINE Nearest NearestLevel(F v, [[maybe_unused]] F low, [[maybe_unused]] F high) {
  if constexpr (kLevels == Levels::kIntegers) {
    const F level = NearestInteger(Cut(v, low, high));
    return {hn::Sub(level, low), level};
  } else if constexpr (kLevels == Levels::kIq4) {
    F code = hn::Zero(kFloats), level = Set(kIq4Values[0]);
    for (std::size_t i = 0; i + 1 < std::size(kIq4Values); ++i) {
      const auto a = static_cast<float>(kIq4Values[i]), b = static_cast<float>(kIq4Values[i + 1]);
      const Mask is_above = hn::Ge(v, Set(0.5F * (a + b)));
      code = hn::Add(code, hn::IfThenElseZero(is_above, Set(1.0F)));
      level = hn::Add(level, hn::IfThenElseZero(is_above, Set(b - a)));
    }
    return {code, level};
  } else if constexpr (kLevels == Levels::kE2m1) {  // ties go to the smaller magnitude
    constexpr float kBorders[] = {0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F};
    const F magnitude = hn::Abs(v);
    F code = hn::Zero(kFloats), level = hn::Zero(kFloats);
    for (std::size_t i = 0; i < std::size(kBorders); ++i) {
      const Mask is_above = hn::Gt(magnitude, Set(kBorders[i]));
      const float step = kE2m1Values[i + 1] - kE2m1Values[i];
      code = hn::Add(code, hn::IfThenElseZero(is_above, Set(1.0F)));
      level = hn::Add(level, hn::IfThenElseZero(is_above, Set(step)));
    }
    const F zero = hn::Zero(kFloats);  // has no sign
    const Mask is_negative = hn::And(hn::Lt(v, zero), hn::Gt(code, zero));
    return {hn::IfThenElse(is_negative, hn::Add(code, Set(8.0F)), code),
            hn::IfThenElse(is_negative, hn::Neg(level), level)};
  } else {
    alignas(64) float values[kLanes], codes[kLanes], levels[kLanes];
    hn::Store(v, kFloats, values);
    for (std::size_t i = 0; i < kLanes; ++i) {
      const std::uint8_t code = FloatToE4m3(values[i]);
      codes[i] = static_cast<float>(code);
      levels[i] = E4m3ToFloat(code);
    }
    return {hn::Load(kFloats, codes), hn::Load(kFloats, levels)};
  }
}

}  // namespace levels
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#endif  // toggle
