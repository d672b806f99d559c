// Q6_K: SearchSymmetric, and Q3_K: DescendSymmetric (kernels/ggml_search.cpp), for a batch of
// sub-blocks at once, one in each lane.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/symmetric_search.cpp"
#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <type_traits>

#include "kernels/ggml_blocks.h"
#include "kernels/ggml_plain.h"
#include "kernels/ggml_scales.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/ggml.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR

template <typename Block>
void EncodeSymmetric(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodePlain<Block>(x, n_blocks, out);
}

#else

constexpr std::size_t kRun = 16;
constexpr std::size_t kSize = kRun * kBatch;

// A batch in columns: element e of lane l at [e * kBatch + l]. From x: x^2 and x^2 * x.
struct Columns {
  alignas(64) float x[kSize], weight[kSize], weighted[kSize], code[kSize];
};

struct Extremes {
  F value[kSide];  // 1 where the sub-block is negligible
  FloatMask is_negligible[kSide];
};

// SignedExtreme for every lane, and the products. False: some weight is too large to be searched.
HWY_INLINE bool Prepare(Columns& columns, Extremes& extremes) {
  const F zero = Set(0.0F);
  F amax[kSide], extreme[kSide];
  for (std::size_t k = 0; k < kSide; ++k) amax[k] = extreme[k] = zero;
  for (std::size_t i = 0; i < kSize; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const std::size_t at = i + k * kLanes;
      const F x = Load(columns.x + at);
      const F magnitude = hn::Abs(x);
      extreme[k] = hn::IfThenElse(hn::Gt(magnitude, amax[k]), x, extreme[k]);
      amax[k] = hn::Max(magnitude, amax[k]);
      const F weight = hn::Mul(x, x);
      Store(weight, columns.weight + at);
      Store(hn::Mul(weight, x), columns.weighted + at);
    }
  }
  FloatMask in_range = hn::Le(zero, zero);
  for (std::size_t k = 0; k < kSide; ++k) {
    in_range = hn::And(in_range, hn::Le(amax[k], Set(kLargestSearched)));
    extremes.is_negligible[k] = hn::Lt(amax[k], Set(kNegligible));
    extremes.value[k] = hn::IfThenElse(extremes.is_negligible[k], Set(1.0F), extreme[k]);
  }
  return hn::AllTrue(Floats(), in_range);
}

struct Sums {
  F xq[kSide], qq[kSide];
};

// Rounds the codes for inv * x, which is at most kLevels + 1 away from 0, and gives their sums.
template <int kLevels, bool kKeep>
HWY_INLINE void FitCodes(Columns& columns, const F* inv, Sums& sums) {
  const F first = Set(static_cast<float>(-kLevels));
  const F last = Set(static_cast<float>(kLevels - 1));
  for (std::size_t k = 0; k < kSide; ++k) sums.xq[k] = sums.qq[k] = Set(0.0F);
  for (std::size_t i = 0; i < kSize; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const std::size_t at = i + k * kLanes;
      const F q = RoundInside(hn::Mul(inv[k], Load(columns.x + at)), first, last);
      if constexpr (kKeep) Store(q, columns.code + at);
      sums.xq[k] = hn::Add(sums.xq[k], hn::Mul(Load(columns.weighted + at), q));
      const F wq = hn::Mul(Load(columns.weight + at), q);
      sums.qq[k] = hn::Add(sums.qq[k], hn::Mul(wq, q));
    }
  }
}

// What the search finds for each lane.
struct Found {
  alignas(64) float scale[kBatch];
  // Q6_K: the codes of the search are those of inv * x; 0 for a negligible sub-block. (Q3_K keeps
  // them in the columns.)
  alignas(64) float inv[kBatch];
};

template <typename Block>
bool Search(Columns& columns, Found& found);

template <>
bool Search<BlockQ6_K>(Columns& columns, Found& found) {
  constexpr int kLevels = 32;
  constexpr float kFloatLevels = kLevels;
  const F zero = Set(0.0F);
  Extremes extremes;
  if (!Prepare(columns, extremes)) return false;
  F inv[kSide], best_inv[kSide], scale[kSide], best_gain[kSide];
  for (std::size_t k = 0; k < kSide; ++k)
    inv[k] = best_inv[k] = hn::Div(Set(-kFloatLevels), extremes.value[k]);
  Sums sums;
  FitCodes<kLevels, false>(columns, inv, sums);
  for (std::size_t k = 0; k < kSide; ++k) {
    scale[k] = hn::IfThenElse(hn::Ne(sums.qq[k], zero), hn::Div(sums.xq[k], sums.qq[k]), zero);
    best_gain[k] = hn::Mul(scale[k], sums.xq[k]);
  }
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const F divisor = Set(-(kFloatLevels + 0.1F * static_cast<float>(step)));
    for (std::size_t k = 0; k < kSide; ++k) inv[k] = hn::Div(divisor, extremes.value[k]);
    FitCodes<kLevels, false>(columns, inv, sums);
    for (std::size_t k = 0; k < kSide; ++k) {
      const F xq = sums.xq[k], qq = sums.qq[k];
      const FloatMask is_better =
          hn::And(hn::Gt(qq, zero), hn::Gt(hn::Mul(xq, xq), hn::Mul(best_gain[k], qq)));
      const F new_scale = hn::Div(xq, qq);
      scale[k] = hn::IfThenElse(is_better, new_scale, scale[k]);
      best_gain[k] = hn::IfThenElse(is_better, hn::Mul(new_scale, xq), best_gain[k]);
      best_inv[k] = hn::IfThenElse(is_better, inv[k], best_inv[k]);
    }
  }
  for (std::size_t k = 0; k < kSide; ++k) {
    const FloatMask is_negligible = extremes.is_negligible[k];
    Store(hn::IfThenElse(is_negligible, zero, scale[k]), found.scale + k * kLanes);
    Store(hn::IfThenElse(is_negligible, zero, best_inv[k]), found.inv + k * kLanes);
  }
  return true;
}

template <>
bool Search<BlockQ3_K>(Columns& columns, Found& found) {
  constexpr int kLevels = 4;
  const F zero = Set(0.0F);
  const F first = Set(static_cast<float>(-kLevels));
  const F last = Set(static_cast<float>(kLevels - 1));
  const F limit = Set(0x1p20F);
  const F margin = Set(0.49F);
  Extremes extremes;
  if (!Prepare(columns, extremes)) return false;
  F inv[kSide];
  for (std::size_t k = 0; k < kSide; ++k)
    inv[k] = hn::Div(Set(-static_cast<float>(kLevels)), extremes.value[k]);
  Sums fit;
  FitCodes<kLevels, true>(columns, inv, fit);
  for (int pass = 0; pass < 5; ++pass) {
    bool has_changed = false;
    for (std::size_t i = 0; i < kSize; i += kBatch) {
      for (std::size_t k = 0; k < kSide; ++k) {
        const std::size_t at = i + k * kLanes;
        const F x = Load(columns.x + at);
        const F weight = Load(columns.weight + at);
        const F weighted = Load(columns.weighted + at);
        const F old_q = Load(columns.code + at);
        const F without_xq = hn::Sub(fit.xq[k], hn::Mul(weighted, old_q));
        const F without_qq = hn::Sub(fit.qq[k], hn::Mul(hn::Mul(weight, old_q), old_q));
        const FloatMask has_rest = hn::Gt(without_xq, zero);
        // The division is not needed where the code stays for certain: the quotient is within
        // 0.49 of it or beyond the last code on its side. The margin of 0.01 is far above what
        // the products and the quotient of numbers below 2^20 are rounded by.
        const F numerator = hn::Mul(x, without_qq);
        const F distance = hn::Sub(numerator, hn::Mul(old_q, without_xq));
        const F reach = hn::Mul(margin, without_xq);
        const FloatMask is_sane = hn::Lt(hn::Abs(numerator), hn::Mul(limit, without_xq));
        const FloatMask stays =
            hn::Or(hn::Lt(hn::Abs(distance), reach),
                   hn::Or(hn::And(hn::Eq(old_q, first), hn::Lt(distance, reach)),
                          hn::And(hn::Eq(old_q, last), hn::Gt(distance, hn::Neg(reach)))));
        const FloatMask is_open = hn::And(has_rest, hn::Not(hn::And(is_sane, stays)));
        if (hn::AllFalse(Floats(), is_open)) continue;

        const I rounded = RoundAndCut(hn::Div(numerator, without_xq), hn::Set(Ints(), -kLevels),
                                      hn::Set(Ints(), kLevels - 1));
        const F new_q = hn::ConvertTo(Floats(), rounded);
        const F with_xq = hn::Add(without_xq, hn::Mul(weighted, new_q));
        const F with_qq = hn::Add(without_qq, hn::Mul(hn::Mul(weight, new_q), new_q));
        const F with = hn::Mul(hn::Mul(with_xq, with_xq), fit.qq[k]);
        const F before = hn::Mul(hn::Mul(fit.xq[k], fit.xq[k]), with_qq);
        const FloatMask is_better = hn::And(hn::And(has_rest, hn::Ne(new_q, old_q)),
                                            hn::And(hn::Gt(with_qq, zero), hn::Gt(with, before)));
        if (hn::AllFalse(Floats(), is_better)) continue;
        has_changed = true;
        Store(hn::IfThenElse(is_better, new_q, old_q), columns.code + at);
        fit.xq[k] = hn::IfThenElse(is_better, with_xq, fit.xq[k]);
        fit.qq[k] = hn::IfThenElse(is_better, with_qq, fit.qq[k]);
      }
    }
    // A lane without a change in a pass changes no more, so it may go on with the others.
    if (!has_changed) break;
  }
  for (std::size_t k = 0; k < kSide; ++k) {
    const F scale = hn::IfThenElse(hn::Gt(fit.qq[k], zero), hn::Div(fit.xq[k], fit.qq[k]), zero);
    Store(hn::IfThenElse(extremes.is_negligible[k], zero, scale), found.scale + k * kLanes);
    if (hn::AllFalse(Floats(), extremes.is_negligible[k])) continue;
    for (std::size_t e = 0; e < kRun; ++e) {
      float* const code = columns.code + e * kBatch + k * kLanes;
      Store(hn::IfThenElse(extremes.is_negligible[k], first, Load(code)), code);
    }
  }
  return true;
}

// The codes of one super-block, a vector at a time.
struct BlockCodes {
  const float* rows;
  const Columns& columns;
  const Found& found;
  std::size_t first_lane;
  std::array<float, 16> stored{};  // scales
};

// Those of elements e to e + kLanes - 1, which are of one run; from 0 on.
template <int kLevels>
HWY_INLINE I CodesAt(const BlockCodes& block, std::size_t e) {
  const Ints di;
  const std::size_t run = e / kRun;
  const std::size_t lane = block.first_lane + run;
  const F x = hn::Load(Floats(), block.rows + e);
  F v;
  if (block.stored[run] != 0.0F) {
    v = hn::Div(x, Set(block.stored[run]));
  } else if constexpr (kLevels == 4) {
    alignas(64) float codes[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i)
      codes[i] = block.columns.code[(e % kRun + i) * kBatch + lane];
    v = Load(codes);
  } else {
    if (block.found.inv[lane] == 0.0F) return hn::Zero(di);
    v = hn::Mul(Set(block.found.inv[lane]), x);
  }
  return hn::Add(RoundAndCut(v, hn::Set(di, -kLevels), hn::Set(di, kLevels - 1)),
                 hn::Set(di, kLevels));
}

// Layouts: ggml_blocks.h and the packing loops of ggml_k_quants.cpp.
HWY_INLINE void Pack(const BlockCodes& codes, BlockQ3_K& block) {
  const I pair = hn::Set(Ints(), 3);
  for (std::size_t c = 0; c < 32; c += kLanes) {
    I bits = hn::Zero(Ints());
    for (std::size_t half = 2; half-- > 0;) {
      I low = hn::Zero(Ints());
      for (std::size_t k = 4; k-- > 0;) {
        const I code = CodesAt<4>(codes, 128 * half + 32 * k + c);
        low = hn::Or(hn::ShiftLeft<2>(low), hn::And(code, pair));
        bits = hn::Or(hn::ShiftLeft<1>(bits), hn::ShiftRight<2>(code));
      }
      StoreBytes(low, block.q + 32 * half + c);
    }
    StoreBytes(bits, block.hmask + c);
  }
}

HWY_INLINE void Pack(const BlockCodes& codes, BlockQ6_K& block) {
  const I nibble = hn::Set(Ints(), 15);
  for (std::size_t half = 0; half < 2; ++half) {
    for (std::size_t c = 0; c < 32; c += kLanes) {
      const std::size_t e = 128 * half + c;
      const I c0 = CodesAt<32>(codes, e), c1 = CodesAt<32>(codes, e + 32);
      const I c2 = CodesAt<32>(codes, e + 64), c3 = CodesAt<32>(codes, e + 96);
      StoreBytes(hn::Or(hn::And(c0, nibble), hn::ShiftLeft<4>(hn::And(c2, nibble))),
                 block.ql + 64 * half + c);
      StoreBytes(hn::Or(hn::And(c1, nibble), hn::ShiftLeft<4>(hn::And(c3, nibble))),
                 block.ql + 64 * half + 32 + c);
      const I low = hn::Or(hn::ShiftRight<4>(c0), hn::ShiftLeft<2>(hn::ShiftRight<4>(c1)));
      const I high = hn::Or(hn::ShiftRight<4>(c2), hn::ShiftLeft<2>(hn::ShiftRight<4>(c3)));
      StoreBytes(hn::Or(low, hn::ShiftLeft<4>(high)), block.qh + 32 * half + c);
    }
  }
}

template <typename Block>
void EncodeSymmetric(const Weights& x, std::size_t n_blocks, std::byte* out) {
  Columns columns;
  Found found;
  const auto search = [&]() HWY_ATTR { return Search<Block>(columns, found); };
  const auto encode = [&](const float* rows, std::size_t lane, Block& block) HWY_ATTR {
    BlockCodes codes{rows, columns, found, lane};
    const std::span<const float, 16> scales(found.scale + lane, 16);
    const bool is_zero =
        !StoreSymmetricScales(scales, block, codes.stored) && std::is_same_v<Block, BlockQ6_K>;
    if (!is_zero) Pack(codes, block);
  };
  EncodeBatches<Block, kRun>(x, n_blocks, out, columns.x, search, encode);
}

#endif

void EncodeQ3_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeSymmetric<BlockQ3_K>(x, n_blocks, out);
}
void EncodeQ6_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeSymmetric<BlockQ6_K>(x, n_blocks, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(EncodeQ3_K);
HWY_EXPORT(EncodeQ6_K);
}  // namespace

namespace simd {

void EncodeQ3_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ3_K)(x, n_blocks, out);
}
void EncodeQ6_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ6_K)(x, n_blocks, out);
}

}  // namespace simd
}  // namespace phiq
#endif
