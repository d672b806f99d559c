// Groups that are rounded to nearest, straight from what a checkpoint holds: phiq's own with
// positive scales, onnxruntime's MLAS and embeddings, NNCF's, llm-compressor's and MLX's
// (kernels/nearest.cpp, mlas_blocks.cpp, gather_blocks.cpp, nncf_groups.cpp, minmax_groups.cpp,
// mlx_affine.cpp, mlx_floats.cpp).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/nearest_groups.cpp"
#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/bits.h"
#include "kernels/integer_methods.h"
#include "kernels/mlx_groups.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/groups.h"
#include "kernels/simd/pairs-inl.h"
#include "kernels/small_floats.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace pairs {
namespace {

#if HWY_TARGET == HWY_SCALAR

struct Positive;
struct Mlas;
struct Gather;
struct Nncf;
struct MinMax;

template <typename Method>
bool EncodeGroups(const GroupSpec&, std::size_t, const Weights&, std::size_t,
                  const simd::GroupArrays&) {
  return false;
}

template <bool kMetal>
bool EncodeMlxGroups(int, FloatType, std::size_t, const Weights&, std::size_t,
                     const simd::GroupArrays&) {
  return false;
}
template <bool kMetal>
bool EncodeMlxFloatGroups(const GroupEncoding&, FloatType, const Weights&, std::size_t,
                          const simd::GroupArrays&) {
  return false;
}

#else

// Scales of kLanes groups are made at once.
constexpr std::size_t kBatch = kLanes;

// RoundToHalf.
HWY_INLINE F RoundedToHalf(F v) {
#if HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, Floats> d16;
  return hn::PromoteTo(Floats(), hn::DemoteTo(d16, v));
#else
  return HalvesToFloats(FloatsToHalves(v));
#endif
}

template <FloatType kType>
HWY_INLINE F Rounded(F v) {
  if constexpr (kType == FloatType::kF16) return RoundedToHalf(v);
  if constexpr (kType == FloatType::kBF16)
    return FromBits(hn::And(FloatsToHighBf16(v), hn::Set(Words(), 0xFFFF0000U)));
  return v;
}

// The value itself where it is above 0; else, and for NaN, 0.
HWY_INLINE F CutBelow(F v) { return hn::IfThenElseZero(hn::Gt(v, Set(0.0F)), v); }

// RoundToCode and RoundToEvenCode.
HWY_INLINE I AwayCode(F v, F top) {
  return TruncateInRange(hn::Add(hn::Min(CutBelow(v), top), Set(0.49999997F)));
}
HWY_INLINE I EvenCode(F v, F top) { return RoundHalfEven(hn::Min(CutBelow(v), top)); }
// NearestInt of v cut to whole numbers; of NaN the first.
HWY_INLINE I CutCode(F v, F first, F last) {
  return RoundHalfEven(hn::Min(hn::IfThenElse(hn::Gt(v, first), v, first), last));
}

// What the codes of each group of a batch are made with.
struct Scales {
  alignas(32) float scale[kBatch];  // as stored
  alignas(32) float factor[kBatch];
  alignas(32) float zero_point[kBatch];
};

HWY_INLINE void StoreScales(F scale, F factor, F zero_point, Scales& scales) {
  hn::Store(scale, Floats(), scales.scale);
  hn::Store(factor, Floats(), scales.factor);
  hn::Store(zero_point, Floats(), scales.zero_point);
}

// The ends of the range of each group of a batch.
struct Ranges {
  F low, high;
  F first;  // the first weight of each
};

// ExtremeOf. Of a group of zeros it is the first, whose sign the scale shows.
HWY_INLINE F ExtremeOf(const Ranges& ranges) {
  const F extreme =
      hn::IfThenElse(hn::Gt(hn::Abs(ranges.high), hn::Abs(ranges.low)), ranges.high, ranges.low);
  return hn::IfThenElse(hn::Eq(extreme, Set(0.0F)), ranges.first, extreme);
}

// From the least of the weights and 0 to the largest. Abs: of zeros of both signs the difference
// may be -0.
HWY_INLINE F WidthWithZero(const Ranges& ranges, F& low) {
  low = hn::Min(ranges.low, Set(0.0F));
  return hn::Abs(hn::Sub(hn::Max(ranges.high, Set(0.0F)), low));
}

// The methods. Make: the scales of a batch. Code: of a weight.

// Symmetric only.
template <FloatType kType, bool kSymmetric>
struct PositiveGroups {
  static constexpr FloatType kRoundsTo = FloatType::kF32;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    const F largest = hn::Max(hn::Abs(ranges.low), hn::Abs(ranges.high));
    const F scale = Rounded<kType>(hn::Div(largest, hn::Sub(middle, Set(1.0F))));
    const F stored = kType == FloatType::kF16 ? hn::Max(scale, Set(kLeastHalf)) : scale;
    const F used = hn::IfThenElse(hn::Lt(largest, Set(kNearestNegligible)), Set(1.0F), stored);
    StoreScales(used, used, middle, scales);
  }
  HWY_INLINE I Code(F x, F factor, F /*zero_point*/) const {
    const F end = hn::Sub(middle, Set(1.0F));
    const I code = CutCode(hn::Div(x, factor), hn::Neg(end), end);
    return hn::Add(code, hn::ConvertTo(Ints(), middle));
  }
};

template <FloatType kType, bool kSymmetric>
struct MlasGroups {
  static constexpr FloatType kRoundsTo = kType;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    const F zero = Set(0.0F);
    F scale, zero_point;
    if constexpr (kSymmetric) {
      scale = hn::Div(hn::Neg(ExtremeOf(ranges)), middle);
      zero_point = middle;
    } else {
      F low;
      scale = hn::Div(WidthWithZero(ranges, low), last);
      // Of the scale before it becomes a half.
      const F v = hn::IfThenElse(hn::Ne(scale, zero), hn::Sub(zero, hn::Div(low, scale)), zero);
      zero_point = hn::ConvertTo(Floats(), AwayCode(v, last));
    }
    scale = Rounded<kType>(scale);
    const F inverse = hn::IfThenElse(hn::Ne(scale, zero), hn::Div(Set(1.0F), scale), zero);
    StoreScales(scale, inverse, zero_point, scales);
  }
  HWY_INLINE I Code(F x, F factor, F zero_point) const {
    return AwayCode(hn::Add(hn::Mul(x, factor), zero_point), last);
  }
};

// Every step rounds to the type of the weights.
template <FloatType kType, bool kSymmetric>
struct GatherGroups {
  static constexpr FloatType kRoundsTo = kType;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    F scale, zero_point;
    if constexpr (kSymmetric) {
      scale = Rounded<kType>(hn::Div(ExtremeOf(ranges), hn::Neg(middle)));
      zero_point = middle;
    } else {
      F low;
      scale = Rounded<kType>(hn::Div(Rounded<kType>(WidthWithZero(ranges, low)), last));
      const F v = hn::IfThenElse(hn::Ne(scale, Set(0.0F)),
                                 Rounded<kType>(hn::Div(hn::Neg(low), scale)), middle);
      zero_point = hn::ConvertTo(Floats(), EvenCode(v, last));
    }
    // A scale of 0 makes codes of the zero point, as one of Inf does.
    const F factor = hn::IfThenElse(hn::Ne(scale, Set(0.0F)), scale,
                                    Set(std::numeric_limits<float>::infinity()));
    StoreScales(scale, factor, zero_point, scales);
  }
  HWY_INLINE I Code(F x, F factor, F zero_point) const {
    const F v = Rounded<kType>(hn::Div(x, factor));
    if constexpr (kSymmetric) {
      const I code = CutCode(v, hn::Neg(zero_point), hn::Sub(zero_point, Set(1.0F)));
      return hn::Add(code, hn::ConvertTo(Ints(), zero_point));
    } else {
      return EvenCode(Rounded<kType>(hn::Add(v, zero_point)), last);
    }
  }
};

template <FloatType kType, bool kSymmetric>
struct NncfGroups {
  static constexpr FloatType kRoundsTo = FloatType::kF32;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    const F least = Set(std::numeric_limits<float>::epsilon());
    F scale, zero_point;
    if constexpr (kSymmetric) {
      const F low = hn::Abs(ranges.low);
      const F end = hn::IfThenElse(hn::Ge(low, ranges.high), low, hn::Neg(ranges.high));
      scale = hn::Div(end, middle);
      scale = hn::IfThenElse(hn::Lt(hn::Abs(scale), least), least, scale);
      zero_point = middle;
    } else {
      F low;
      scale = hn::Div(WidthWithZero(ranges, low), last);
      scale = hn::IfThenElse(hn::Lt(hn::Abs(scale), least), least, scale);
      zero_point = hn::ConvertTo(Floats(), EvenCode(hn::Div(hn::Neg(low), scale), last));
    }
    // Codes are those of the scale before it becomes a half.
    StoreScales(Rounded<kType>(scale), scale, zero_point, scales);
  }
  HWY_INLINE I Code(F x, F factor, F zero_point) const {
    const F v = hn::Div(x, factor);
    if constexpr (kSymmetric) {
      const I code = CutCode(v, hn::Neg(middle), hn::Sub(middle, Set(1.0F)));
      return hn::Add(code, hn::ConvertTo(Ints(), middle));
    } else {
      return EvenCode(hn::Add(v, zero_point), last);
    }
  }
};

// Every step rounds to the type of the scales. Codes are signed until they are stored.
template <FloatType kType, bool kSymmetric>
struct MinMaxGroups {
  static constexpr FloatType kRoundsTo = kType;
  static constexpr float kEpsilon = kType == FloatType::kBF16  ? 0x1p-7F
                                    : kType == FloatType::kF16 ? 0x1p-10F
                                                               : 0x1p-23F;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    const F zero = Set(0.0F);
    F low, scale, zero_point = middle;
    [[maybe_unused]] const F width = WidthWithZero(ranges, low);
    if constexpr (kSymmetric) {
      const F largest = hn::Max(hn::Neg(low), hn::Max(ranges.high, zero));
      scale = Rounded<kType>(hn::Div(largest, hn::Mul(last, Set(0.5F))));
    } else {
      scale = Rounded<kType>(hn::Div(Rounded<kType>(width), last));
      const F first = hn::Neg(middle), top = hn::Sub(middle, Set(1.0F));
      const F quotient = hn::Div(low, scale);
      const F exact =
          hn::IfThenElse(hn::Eq(quotient, quotient),
                         Rounded<kType>(hn::Sub(first, Rounded<kType>(quotient))), first);
      const F without = hn::IfThenElse(hn::Lt(low, zero), top, zero);
      const F nearest = hn::IfThenElse(hn::Eq(scale, zero), without, exact);
      zero_point = hn::Add(hn::ConvertTo(Floats(), CutCode(nearest, first, top)), middle);
    }
    scale = hn::IfThenElse(hn::Eq(scale, zero), Set(kEpsilon), scale);
    StoreScales(scale, scale, zero_point, scales);
  }
  HWY_INLINE I Code(F x, F scale, F zero_point) const {
    const F quotient = hn::Div(x, scale);
    F v = Rounded<kType>(quotient);
    if constexpr (!kSymmetric) v = Rounded<kType>(hn::Add(v, hn::Sub(zero_point, middle)));
    // None where a weight and its scale are infinite.
    v = hn::IfThenElse(hn::Eq(quotient, quotient), v, hn::Neg(middle));
    const I code = CutCode(v, hn::Neg(middle), hn::Sub(middle, Set(1.0F)));
    return hn::Add(code, hn::ConvertTo(Ints(), middle));
  }
};

// What mx.quantize stores (kernels/mlx_affine.cpp); `last` is that of the bits.
template <FloatType kType, bool kMetal>
struct MlxGroups {
  static constexpr FloatType kRoundsTo = kType;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    const F zero = Set(0.0F);
    const F high = kMetal ? hn::Max(ranges.high, zero) : ranges.high;
    F step = hn::Div(hn::Sub(high, ranges.low), last);
    step = hn::IfThenElse(hn::Lt(step, Set(1e-7F)), Set(1e-7F), step);
    const Mask from_low = hn::Gt(hn::Abs(ranges.low), hn::Abs(high));
    const F edge = hn::IfThenElse(from_low, ranges.low, high);
    step = hn::IfThenElse(from_low, step, hn::Neg(step));
    const F quotient = hn::Div(edge, step);
    F q0;
    if constexpr (kMetal) {  // ties away from zero; whole from 2^23 on
      const F moved = hn::Add(quotient, hn::CopySign(Set(0.49999997F), quotient));
      q0 = hn::IfThenElse(hn::Lt(hn::Abs(quotient), Set(0x1p23F)), hn::Trunc(moved), quotient);
    } else {
      q0 = hn::Round(quotient);
    }
    const Mask has_edge = hn::Not(hn::Eq(q0, zero));  // NaN has: Highway's Ne is not sure of it
    const F scale = hn::IfThenElse(has_edge, hn::Div(edge, q0), step);
    StoreScales(scale, scale, hn::IfThenElse(has_edge, edge, zero), scales);
  }
  HWY_INLINE I Code(F x, F scale, F bias) const {
    const F v = hn::Div(hn::Sub(x, bias), scale);
    return kMetal ? AwayCode(v, last) : EvenCode(v, last);
  }
};

// What mx.quantize stores in its small-float modes (kernels/mlx_floats.cpp). Codes are of weights
// times a factor, or divided by it.
enum class SmallFloats { kMxfp4, kMxfp8, kNvfp4 };

// The number of borders below the magnitude, and the sign.
template <bool kMetal>
HWY_INLINE I CodeE2m1(F v) {
  const F magnitude = hn::Abs(v);
  I code = hn::Zero(Ints());
  constexpr MlxBorders kBorders = kMetal ? kMlxMetalBorders : kMlxCpuBorders;
  for (const float border : kBorders.at) {
    // A lane of a mask is -1.
    code = hn::Sub(code,
                   hn::VecFromMask(Ints(), hn::RebindMask(Ints(), hn::Gt(magnitude, Set(border)))));
  }
  I sign = hn::BitCast(Ints(), hn::And(hn::ShiftRight<28>(Bits(v)), hn::Set(Words(), 8U)));
  // On the CPU -0 has no code of its own.
  if constexpr (!kMetal) sign = hn::IfThenElseZero(hn::Gt(code, hn::Zero(Ints())), sign);
  return hn::Or(code, sign);
}

// FloatToE4m3.
HWY_INLINE I CodeE4m3(F v) {
  const I bits = hn::BitCast(Ints(), v);
  const I magnitude = hn::And(bits, SetInt(0x7FFFFFFF));
  const F shift = Set(0x1p14F);
  const I subnormal = hn::Sub(hn::BitCast(Ints(), hn::Add(hn::BitCast(Floats(), magnitude), shift)),
                              hn::BitCast(Ints(), shift));
  const I odd = hn::And(hn::ShiftRight<20>(magnitude), SetInt(1));
  const I rounded = hn::Add(hn::Add(magnitude, SetInt(0x7FFFF)), odd);
  const I normal = hn::ShiftRight<20>(hn::Sub(rounded, SetInt(120 << 23)));
  const I small = hn::IfThenElse(hn::Lt(magnitude, SetInt(121 << 23)), subnormal, normal);
  const I largest = SetInt(kE4m3Largest);
  const I cut = hn::IfThenElse(hn::Lt(magnitude, hn::BitCast(Ints(), Set(448.0F))), small, largest);
  return hn::Or(cut, hn::And(hn::ShiftRight<24>(bits), SetInt(0x80)));
}

template <FloatType kType, bool kMetal, SmallFloats kCodes>
struct MlxFloatGroups {
  static constexpr FloatType kRoundsTo = kType;
  F middle, last;

  HWY_INLINE void Make(const Ranges& ranges, Scales& scales) const {
    const F largest = hn::Max(hn::Abs(ranges.low), hn::Abs(ranges.high));
    const F exact = hn::Div(largest, Set(kCodes == SmallFloats::kMxfp8 ? 448.0F : 6.0F));
    const F a = kMetal ? exact : Rounded<kType>(exact);
    const F one = Set(1.0F);
    if constexpr (kCodes == SmallFloats::kNvfp4) {
      alignas(32) std::int32_t bytes[kBatch];
      alignas(32) float values[kBatch];
      hn::Store(CodeE4m3(a), Ints(), bytes);
      for (std::size_t b = 0; b < kBatch; ++b)
        values[b] = E4m3ToFloat(static_cast<std::uint8_t>(bytes[b]));
      const F scale = hn::Load(Floats(), values);
      const Mask is_zero = hn::Eq(scale, Set(0.0F));
      const F nan = Set(std::numeric_limits<float>::quiet_NaN());
      // A scale of 0 makes zeros: as a factor, and as a divisor of Inf.
      const F factor =
          kMetal ? hn::IfThenZeroElse(is_zero, hn::Div(one, scale))
                 : hn::IfThenElse(is_zero, Set(std::numeric_limits<float>::infinity()), scale);
      StoreScales(hn::IfThenElse(hn::Le(a, Set(464.0F)), scale, nan), factor, Set(0.0F), scales);
    } else {
      // The exponent of the smallest power of two that is not below. One of 0 is 2^-127.
      const I bits = hn::BitCast(Ints(), a);
      I exponent = hn::ShiftRight<23>(hn::Add(bits, SetInt(0x7FFFFF)));
      exponent = hn::IfThenElseZero(hn::Gt(bits, SetInt(0x400000)), exponent);
      if constexpr (!kMetal)
        exponent = hn::IfThenElse(hn::Eq(bits, hn::Zero(Ints())), SetInt(127), exponent);
      const I power = hn::IfThenElse(hn::Eq(exponent, hn::Zero(Ints())), SetInt(0x400000),
                                     hn::ShiftLeft<23>(exponent));
      const F nan = Set(std::numeric_limits<float>::quiet_NaN());
      const F scale = hn::IfThenElse(IsFiniteLane(a), hn::BitCast(Floats(), power), nan);
      StoreScales(scale, hn::Div(one, scale), Set(0.0F), scales);
    }
  }
  HWY_INLINE I Code(F x, F factor, F /*zero_point*/) const {
    const bool divides = kCodes == SmallFloats::kNvfp4 && !kMetal;
    const F v = divides ? hn::Div(x, factor) : hn::Mul(x, factor);
    if constexpr (kCodes == SmallFloats::kMxfp8) return CodeE4m3(v);
    return CodeE2m1<kMetal>(v);
  }
};

// 2 * kLanes codes, the even one of a pair first.
template <int kBits>
HWY_INLINE void StoreCodes(I even, I odd, std::byte* to) {
  const W pair = hn::BitCast(Words(), hn::Or(even, hn::ShiftLeft<kBits>(odd)));
  if constexpr (kBits == 4) {
    const hn::Rebind<std::uint8_t, Floats> d;
    hn::StoreU(hn::TruncateTo(d, pair), d, reinterpret_cast<std::uint8_t*>(to));
  } else {
    const hn::Rebind<std::uint16_t, Floats> d;
    hn::StoreU(hn::TruncateTo(d, pair), d, reinterpret_cast<std::uint16_t*>(to));
  }
}

template <FloatType kType, typename Groups>
void Encode(const Groups& groups, int bits, std::size_t group_size, const std::byte* x,
            std::size_t n_groups, const simd::GroupArrays& out) {
  constexpr std::size_t kStep = 2 * kLanes;
  // Weights of that type are their own roundings.
  constexpr FloatType kRoundsTo = Groups::kRoundsTo == kType ? FloatType::kF32 : Groups::kRoundsTo;
  constexpr std::size_t kPairBytes = kStep * FloatBytes(kType);
  const std::size_t n_pairs = group_size / kStep;
  const std::size_t group_bytes = group_size * FloatBytes(kType);
  const std::size_t code_bytes = PackedBytes(bits, group_size);
  alignas(32) std::byte bytes[kMaxMlxGroupSize];  // for bits that do not fit a byte evenly
  const bool fits = bits == 4 || bits == 8;
  const std::size_t pair_bytes = bits == 4 ? kLanes : kStep;  // of codes
  const auto min = [](F a, F b) HWY_ATTR { return hn::Min(a, b); };
  const auto max = [](F a, F b) HWY_ATTR { return hn::Max(a, b); };
  for (std::size_t g = 0; g < n_groups; g += kBatch) {
    const std::size_t n = std::min(kBatch, n_groups - g);
    F low[kBatch], high[kBatch];
    alignas(32) float first[kBatch] = {};
    for (std::size_t b = n; b < kBatch; ++b) low[b] = high[b] = Set(0.0F);
    const std::byte* p = x + g * group_bytes;
    for (std::size_t b = 0; b < n; ++b) {
      const Pair start = LoadPair<kType>(p);
      first[b] = hn::GetLane(start.even);
      low[b] = hn::Min(start.even, start.odd);
      high[b] = hn::Max(start.even, start.odd);
      for (std::size_t i = 1; i < n_pairs; ++i) {
        const Pair pair = LoadPair<kType>(p + i * kPairBytes);
        low[b] = hn::Min(low[b], hn::Min(pair.even, pair.odd));
        high[b] = hn::Max(high[b], hn::Max(pair.even, pair.odd));
      }
      p += group_bytes;
    }
    // Rounding is monotone: it may come after the search for the ends.
    const Ranges ranges = {Rounded<kRoundsTo>(ReduceEach(Floats(), low, min)),
                           Rounded<kRoundsTo>(ReduceEach(Floats(), high, max)),
                           Rounded<kRoundsTo>(hn::Load(Floats(), first))};
    Scales scales;
    groups.Make(ranges, scales);

    p = x + g * group_bytes;
    std::byte* to = out.codes + g * code_bytes;
    for (std::size_t b = 0; b < n; ++b) {
      out.scales[g + b] = scales.scale[b];
      if (out.biases != nullptr) {
        out.biases[g + b] = scales.zero_point[b];
      } else if (out.zero_points != nullptr) {
        out.zero_points[g + b] = static_cast<std::uint8_t>(scales.zero_point[b]);
      }
      std::byte* const q = fits ? to : bytes;
      const F factor = Set(scales.factor[b]);
      const F zero_point = Set(scales.zero_point[b]);
      for (std::size_t i = 0; i < n_pairs; ++i) {
        const Pair pair = LoadPair<kType>(p + i * kPairBytes);
        const I even = groups.Code(Rounded<kRoundsTo>(pair.even), factor, zero_point);
        const I odd = groups.Code(Rounded<kRoundsTo>(pair.odd), factor, zero_point);
        if (bits == 4) {
          StoreCodes<4>(even, odd, q + i * pair_bytes);
        } else {
          StoreCodes<8>(even, odd, q + i * pair_bytes);
        }
      }
      if (!fits) {
        const std::span codes(reinterpret_cast<const std::uint8_t*>(bytes), group_size);
        PackBits(bits, codes, {to, code_bytes});
      }
      p += group_bytes;
      to += code_bytes;
    }
  }
}

template <typename Groups>
bool EncodeWith(int bits, std::size_t group_size, const Weights& x, std::size_t n_groups,
                const simd::GroupArrays& out) {
  const Groups groups{Set(static_cast<float>(1 << (bits - 1))),
                      Set(static_cast<float>((1 << bits) - 1))};
  switch (x.type) {
    case FloatType::kF32:
      Encode<FloatType::kF32>(groups, bits, group_size, x.data, n_groups, out);
      return true;
    case FloatType::kF16:
      Encode<FloatType::kF16>(groups, bits, group_size, x.data, n_groups, out);
      return true;
    case FloatType::kBF16:
      Encode<FloatType::kBF16>(groups, bits, group_size, x.data, n_groups, out);
      return true;
  }
  return false;
}

struct Positive {
  template <FloatType kType, bool kSymmetric>
  using Groups = PositiveGroups<kType, kSymmetric>;
};
struct Mlas {
  template <FloatType kType, bool kSymmetric>
  using Groups = MlasGroups<kType, kSymmetric>;
};
struct Gather {
  template <FloatType kType, bool kSymmetric>
  using Groups = GatherGroups<kType, kSymmetric>;
};
struct Nncf {
  template <FloatType kType, bool kSymmetric>
  using Groups = NncfGroups<kType, kSymmetric>;
};

struct MinMax {
  template <FloatType kType, bool kSymmetric>
  using Groups = MinMaxGroups<kType, kSymmetric>;
};

template <typename Method>
bool EncodeGroups(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const simd::GroupArrays& out) {
  const auto with = [&]<typename Groups>() {
    return EncodeWith<Groups>(spec.bits, group_size, x, n_groups, out);
  };
  using FloatType::kBF16, FloatType::kF16, FloatType::kF32;
  if constexpr (std::is_same_v<Method, MinMax>) {  // the others have no scales of that type
    if (spec.scale == ScaleType::kBF16) {
      return spec.symmetric
                 ? with.template operator()<typename Method::template Groups<kBF16, true> >()
                 : with.template operator()<typename Method::template Groups<kBF16, false> >();
    }
  }
  if (spec.scale == ScaleType::kF16) {
    return spec.symmetric
               ? with.template operator()<typename Method::template Groups<kF16, true> >()
               : with.template operator()<typename Method::template Groups<kF16, false> >();
  }
  return spec.symmetric
             ? with.template operator()<typename Method::template Groups<kF32, true> >()
             : with.template operator()<typename Method::template Groups<kF32, false> >();
}

template <bool kMetal>
bool EncodeMlxGroups(int bits, FloatType float_type, std::size_t group_size, const Weights& x,
                     std::size_t n_groups, const simd::GroupArrays& out) {
  switch (float_type) {
    case FloatType::kF32:
      return EncodeWith<MlxGroups<FloatType::kF32, kMetal> >(bits, group_size, x, n_groups, out);
    case FloatType::kF16:
      return EncodeWith<MlxGroups<FloatType::kF16, kMetal> >(bits, group_size, x, n_groups, out);
    case FloatType::kBF16:
      return EncodeWith<MlxGroups<FloatType::kBF16, kMetal> >(bits, group_size, x, n_groups, out);
  }
  return false;
}

template <FloatType kType, bool kMetal>
void EncodeMlxFloatsOf(const GroupEncoding& groups, const Weights& x, std::size_t n_groups,
                       const simd::GroupArrays& out) {
  const auto with = [&]<typename Groups>() {
    EncodeWith<Groups>(BitsOf(groups.code), groups.group_size, x, n_groups, out);
  };
  if (groups.scale == ScaleType::kE4M3) {
    with.template operator()<MlxFloatGroups<kType, kMetal, SmallFloats::kNvfp4> >();
  } else if (groups.code == Code::kE4M3) {
    with.template operator()<MlxFloatGroups<kType, kMetal, SmallFloats::kMxfp8> >();
  } else {
    with.template operator()<MlxFloatGroups<kType, kMetal, SmallFloats::kMxfp4> >();
  }
}

template <bool kMetal>
bool EncodeMlxFloatGroups(const GroupEncoding& groups, FloatType type, const Weights& x,
                          std::size_t n_groups, const simd::GroupArrays& out) {
  switch (type) {
    case FloatType::kF32:
      EncodeMlxFloatsOf<FloatType::kF32, kMetal>(groups, x, n_groups, out);
      return true;
    case FloatType::kF16:
      EncodeMlxFloatsOf<FloatType::kF16, kMetal>(groups, x, n_groups, out);
      return true;
    case FloatType::kBF16:
      EncodeMlxFloatsOf<FloatType::kBF16, kMetal>(groups, x, n_groups, out);
      return true;
  }
  return false;
}

#endif

}  // namespace
}  // namespace pairs

namespace {

bool EncodePositive(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                    std::size_t n_groups, const simd::GroupArrays& out) {
  return pairs::EncodeGroups<pairs::Positive>(spec, group_size, x, n_groups, out);
}
bool EncodeMlas(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                std::size_t n_groups, const simd::GroupArrays& out) {
  return pairs::EncodeGroups<pairs::Mlas>(spec, group_size, x, n_groups, out);
}
bool EncodeGather(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const simd::GroupArrays& out) {
  return pairs::EncodeGroups<pairs::Gather>(spec, group_size, x, n_groups, out);
}
bool EncodeNncf(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                std::size_t n_groups, const simd::GroupArrays& out) {
  return pairs::EncodeGroups<pairs::Nncf>(spec, group_size, x, n_groups, out);
}
bool EncodeMinMax(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const simd::GroupArrays& out) {
  return pairs::EncodeGroups<pairs::MinMax>(spec, group_size, x, n_groups, out);
}

bool EncodeMlxAffine(int bits, bool as_metal, FloatType float_type, std::size_t group_size,
                     const Weights& x, std::size_t n_groups, const simd::GroupArrays& out) {
  return as_metal ? pairs::EncodeMlxGroups<true>(bits, float_type, group_size, x, n_groups, out)
                  : pairs::EncodeMlxGroups<false>(bits, float_type, group_size, x, n_groups, out);
}

bool EncodeMlxFloats(const GroupEncoding& groups, FloatType type, bool as_metal, const Weights& x,
                     std::size_t n_groups, const simd::GroupArrays& out) {
  return as_metal ? pairs::EncodeMlxFloatGroups<true>(groups, type, x, n_groups, out)
                  : pairs::EncodeMlxFloatGroups<false>(groups, type, x, n_groups, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(EncodePositive);
HWY_EXPORT(EncodeMlas);
HWY_EXPORT(EncodeGather);
HWY_EXPORT(EncodeNncf);
HWY_EXPORT(EncodeMinMax);
HWY_EXPORT(EncodeMlxAffine);
HWY_EXPORT(EncodeMlxFloats);
}  // namespace

namespace simd {

bool EncodeNearest(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                   std::size_t n_groups, const GroupArrays& out) {
  if (!spec.positive_scales || !spec.symmetric) return false;
  return HWY_DYNAMIC_DISPATCH(EncodePositive)(spec, group_size, x, n_groups, out);
}
bool EncodeMlas(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeMlas)(spec, group_size, x, n_groups, out);
}
bool EncodeGather(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeGather)(spec, group_size, x, n_groups, out);
}
bool EncodeNncf(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeNncf)(spec, group_size, x, n_groups, out);
}
bool EncodeMinMax(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeMinMax)(spec, group_size, x, n_groups, out);
}

bool EncodeMlxAffine(int bits, bool as_metal, FloatType float_type, std::size_t group_size,
                     const Weights& x, std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeMlxAffine)(bits, as_metal, float_type, group_size, x, n_groups,
                                               out);
}

bool EncodeMlxFloats(const GroupEncoding& groups, FloatType type, bool as_metal, const Weights& x,
                     std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeMlxFloats)(groups, type, as_metal, x, n_groups, out);
}

}  // namespace simd
}  // namespace phiq
#endif
