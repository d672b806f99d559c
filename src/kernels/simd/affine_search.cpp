// Q4_K, Q5_K and Q2_K: SearchAffine (kernels/ggml_search.cpp) for a batch of sub-blocks at once,
// one in each lane.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/affine_search.cpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

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
void EncodeAffine(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodePlain<Block>(x, n_blocks, out);
}

#else

template <typename Block>
struct Sort;
template <>
struct Sort<BlockQ2_K> {
  static constexpr std::size_t kRun = 16;
  static constexpr AffineGrid kGrid = kQ2Grid;
};
template <>
struct Sort<BlockQ4_K> {
  static constexpr std::size_t kRun = 32;
  static constexpr AffineGrid kGrid = kQ4Grid;
};
template <>
struct Sort<BlockQ5_K> {
  static constexpr std::size_t kRun = 32;
  static constexpr AffineGrid kGrid = kQ5Grid;
};

// What the search finds for each lane. The codes are not kept: a sub-block that needs them (its
// stored scale is 0) makes them again, as NearestInt(inv * (x - origin)).
struct Found {
  alignas(64) float scale[kBatch], min[kBatch], inv[kBatch], origin[kBatch];
};

// A batch in columns: element e of lane l at [e * kBatch + l].
template <std::size_t kRun>
struct Columns {
  alignas(64) float x[kRun * kBatch], weight[kRun * kBatch], code[kRun * kBatch];
};

template <typename S>
HWY_INLINE void Weigh(Columns<S::kRun>& columns) {
  if constexpr (S::kGrid.absolute_error) {
    for (std::size_t i = 0; i < S::kRun * kBatch; i += kLanes)
      Store(hn::Abs(Load(columns.x + i)), columns.weight + i);
  } else {
    F sum[kSide];
    for (std::size_t k = 0; k < kSide; ++k) sum[k] = Set(0.0F);
    for (std::size_t i = 0; i < S::kRun * kBatch; i += kBatch) {
      for (std::size_t k = 0; k < kSide; ++k) {
        const F x = Load(columns.x + i + k * kLanes);
        sum[k] = hn::Add(sum[k], hn::Mul(x, x));
      }
    }
    for (std::size_t k = 0; k < kSide; ++k) sum[k] = hn::Sqrt(hn::Div(sum[k], Set(32.0F)));
    for (std::size_t i = 0; i < S::kRun * kBatch; i += kBatch) {
      for (std::size_t k = 0; k < kSide; ++k) {
        const F x = Load(columns.x + i + k * kLanes);
        Store(hn::Add(sum[k], hn::Abs(x)), columns.weight + i + k * kLanes);
      }
    }
  }
}

// Rounds the codes for inv * (x - origin) and, unless kFirst, gives their sums.
struct Sums {
  F wq[kSide], wqq[kSide], wqx[kSide];
};
template <typename S, bool kFirst>
HWY_INLINE void RoundCodes(Columns<S::kRun>& columns, const F* inv, const F* origin, Sums& sums) {
  const F first = Set(0.0F);
  const F last = Set(static_cast<float>(S::kGrid.last_code));
  if constexpr (!kFirst) {
    for (std::size_t k = 0; k < kSide; ++k) sums.wq[k] = sums.wqq[k] = sums.wqx[k] = first;
  }
  for (std::size_t i = 0; i < S::kRun * kBatch; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const F x = Load(columns.x + i + k * kLanes);
      const F q = RoundInside(hn::Mul(inv[k], hn::Sub(x, origin[k])), first, last);
      Store(q, columns.code + i + k * kLanes);
      if constexpr (kFirst) continue;
      const F wq = hn::Mul(Load(columns.weight + i + k * kLanes), q);
      sums.wq[k] = hn::Add(sums.wq[k], wq);
      sums.wqq[k] = hn::Add(sums.wqq[k], hn::Mul(wq, q));
      sums.wqx[k] = hn::Add(sums.wqx[k], hn::Mul(wq, x));
    }
  }
}

template <typename S>
HWY_INLINE void LineError(const Columns<S::kRun>& columns, const F* scale, const F* min, F* error) {
  for (std::size_t k = 0; k < kSide; ++k) error[k] = Set(0.0F);
  for (std::size_t i = 0; i < S::kRun * kBatch; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const std::size_t at = i + k * kLanes;
      const F line = hn::Add(hn::Mul(scale[k], Load(columns.code + at)), min[k]);
      const F e = hn::Sub(line, Load(columns.x + at));
      const F cost = S::kGrid.absolute_error ? hn::Abs(e) : hn::Mul(e, e);
      error[k] = hn::Add(error[k], hn::Mul(Load(columns.weight + at), cost));
    }
  }
}

// SearchAffine for every lane. False: not for this batch, as numbers are out of range.
template <typename S>
bool Search(Columns<S::kRun>& columns, Found& found) {
  constexpr AffineGrid kGrid = S::kGrid;
  constexpr float kLastCode = static_cast<float>(kGrid.last_code);
  const F zero = Set(0.0F);
  const F one = Set(1.0F);

  Weigh<S>(columns);
  F low[kSide], high[kSide], sum_w[kSide], sum_wx[kSide];
  for (std::size_t k = 0; k < kSide; ++k) {
    low[k] = high[k] = Load(columns.x + k * kLanes);
    sum_w[k] = Load(columns.weight + k * kLanes);
    sum_wx[k] = hn::Mul(sum_w[k], low[k]);
  }
  for (std::size_t i = kBatch; i < S::kRun * kBatch; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const F x = Load(columns.x + i + k * kLanes);
      const F w = Load(columns.weight + i + k * kLanes);
      low[k] = hn::Min(low[k], x);
      high[k] = hn::Max(high[k], x);
      sum_w[k] = hn::Add(sum_w[k], w);
      sum_wx[k] = hn::Add(sum_wx[k], hn::Mul(w, x));
    }
  }

  // Lanes of equal weights have no line: they go along with a range of 1 and are set at the end.
  FloatMask is_flat[kSide];
  F best_scale[kSide], best_min[kSide], best_error[kSide], best_inv[kSide], best_origin[kSide];
  F inv[kSide];
  // RoundInside rounds numbers below 2^22 only. Subtraction and multiplication are monotone, so
  // those of the lowest and the highest weight bound all others.
  FloatMask in_range = hn::Le(zero, zero);
  const F limit = Set(0x1p22F);
  const auto check = [&](std::size_t k, F origin) HWY_ATTR {
    const F first = hn::Abs(hn::Mul(inv[k], hn::Sub(low[k], origin)));
    const F last = hn::Abs(hn::Mul(inv[k], hn::Sub(high[k], origin)));
    in_range = hn::And(in_range, hn::And(hn::Lt(first, limit), hn::Lt(last, limit)));
  };
  for (std::size_t k = 0; k < kSide; ++k) {
    const F largest = hn::Max(hn::Neg(low[k]), high[k]);
    in_range = hn::And(in_range, hn::Le(largest, Set(kLargestSearched)));
    low[k] = hn::Min(low[k], zero);
    is_flat[k] = hn::Eq(low[k], high[k]);
    inv[k] = hn::Div(Set(kLastCode), hn::IfThenElse(is_flat[k], one, hn::Sub(high[k], low[k])));
    check(k, low[k]);
    best_scale[k] = hn::Div(one, inv[k]);
    best_min[k] = best_origin[k] = low[k];
    best_inv[k] = inv[k];
  }
  if (!hn::AllTrue(Floats(), in_range)) return false;

  Sums sums;
  RoundCodes<S, true>(columns, inv, best_min, sums);
  LineError<S>(columns, best_scale, best_min, best_error);
  for (int step = 0; step <= kGrid.last_step; ++step) {
    const float divisor = kGrid.first + kGrid.step * static_cast<float>(step) + kLastCode;
    for (std::size_t k = 0; k < kSide; ++k) {
      const F range = hn::IfThenElse(is_flat[k], one, hn::Sub(high[k], best_min[k]));
      inv[k] = hn::Div(Set(divisor), range);
      check(k, best_min[k]);
    }
    if (!hn::AllTrue(Floats(), in_range)) return false;
    RoundCodes<S, false>(columns, inv, best_min, sums);
    F scale[kSide], min[kSide], error[kSide];
    FloatMask has_line[kSide];
    for (std::size_t k = 0; k < kSide; ++k) {
      const F wq = sums.wq[k], wqq = sums.wqq[k], wqx = sums.wqx[k];
      const F determinant = hn::Sub(hn::Mul(sum_w[k], wqq), hn::Mul(wq, wq));
      has_line[k] = hn::Gt(determinant, zero);
      scale[k] = hn::Div(hn::Sub(hn::Mul(sum_w[k], wqx), hn::Mul(sum_wx[k], wq)), determinant);
      min[k] = hn::Div(hn::Sub(hn::Mul(wqq, sum_wx[k]), hn::Mul(wq, wqx)), determinant);
      const FloatMask is_above = hn::Gt(min[k], zero);
      scale[k] = hn::IfThenElse(is_above, hn::Div(wqx, wqq), scale[k]);
      min[k] = hn::IfThenElse(is_above, zero, min[k]);
    }
    LineError<S>(columns, scale, min, error);
    for (std::size_t k = 0; k < kSide; ++k) {
      const FloatMask is_better = hn::And(has_line[k], hn::Lt(error[k], best_error[k]));
      best_inv[k] = hn::IfThenElse(is_better, inv[k], best_inv[k]);
      best_origin[k] = hn::IfThenElse(is_better, best_min[k], best_origin[k]);
      best_scale[k] = hn::IfThenElse(is_better, scale[k], best_scale[k]);
      best_min[k] = hn::IfThenElse(is_better, min[k], best_min[k]);
      best_error[k] = hn::IfThenElse(is_better, error[k], best_error[k]);
    }
  }
  for (std::size_t k = 0; k < kSide; ++k) {
    Store(hn::IfThenElse(is_flat[k], zero, best_scale[k]), found.scale + k * kLanes);
    Store(hn::Neg(hn::IfThenElse(is_flat[k], low[k], best_min[k])), found.min + k * kLanes);
    // Codes of 0.
    Store(hn::IfThenElse(is_flat[k], zero, best_inv[k]), found.inv + k * kLanes);
    Store(hn::IfThenElse(is_flat[k], zero, best_origin[k]), found.origin + k * kLanes);
  }
  return true;
}

// The codes of one super-block, a vector at a time.
template <typename S>
class Codes {
 public:
  static constexpr std::size_t kRuns = 256 / S::kRun;

  Codes(const float* rows, const std::array<StoredScale, kRuns>& stored, const Found& found,
        std::size_t first_lane)
      : rows_(rows), stored_(stored), found_(found), first_lane_(first_lane) {}

  // Those of elements e to e + kLanes - 1, which are of one run.
  HWY_INLINE I At(std::size_t e) const {
    const std::size_t run = e / S::kRun;
    const F x = hn::Load(Floats(), rows_ + e);
    const StoredScale stored = stored_[run];
    const std::size_t lane = first_lane_ + run;
    const F v = stored.scale != 0.0F
                    ? hn::Div(hn::Add(x, Set(stored.min)), Set(stored.scale))
                    : hn::Mul(Set(found_.inv[lane]), hn::Sub(x, Set(found_.origin[lane])));
    return RoundAndCut(v, hn::Zero(Ints()), hn::Set(Ints(), S::kGrid.last_code));
  }

 private:
  const float* rows_;
  const std::array<StoredScale, kRuns>& stored_;
  const Found& found_;
  std::size_t first_lane_;
};

// Layouts: ggml_blocks.h and the packing loops of ggml_k_quants.cpp.
HWY_INLINE void Pack(const Codes<Sort<BlockQ2_K> >& codes, BlockQ2_K& block) {
  for (std::size_t half = 0; half < 2; ++half) {
    for (std::size_t c = 0; c < 32; c += kLanes) {
      const std::size_t e = 128 * half + c;
      const I low = hn::Or(codes.At(e), hn::ShiftLeft<2>(codes.At(e + 32)));
      const I high = hn::Or(codes.At(e + 64), hn::ShiftLeft<2>(codes.At(e + 96)));
      StoreBytes(hn::Or(low, hn::ShiftLeft<4>(high)), block.q + 32 * half + c);
    }
  }
}

HWY_INLINE void Pack(const Codes<Sort<BlockQ4_K> >& codes, BlockQ4_K& block) {
  for (std::size_t pair = 0; pair < 4; ++pair) {
    for (std::size_t c = 0; c < 32; c += kLanes) {
      const std::size_t e = 64 * pair + c;
      StoreBytes(hn::Or(codes.At(e), hn::ShiftLeft<4>(codes.At(e + 32))), block.q + 32 * pair + c);
    }
  }
}

HWY_INLINE void Pack(const Codes<Sort<BlockQ5_K> >& codes, BlockQ5_K& block) {
  const I nibble = hn::Set(Ints(), 15);
  for (std::size_t c = 0; c < 32; c += kLanes) {
    I bits = hn::Zero(Ints());
    for (std::size_t pair = 4; pair-- > 0;) {
      const std::size_t e = 64 * pair + c;
      const I low = codes.At(e);
      const I high = codes.At(e + 32);
      // Bit 4 of code e to bit 2 * pair, that of e + 32 to the next.
      const I two = hn::Or(hn::ShiftRight<4>(low), hn::ShiftLeft<1>(hn::ShiftRight<4>(high)));
      bits = hn::Or(hn::ShiftLeft<2>(bits), two);
      StoreBytes(hn::Or(hn::And(low, nibble), hn::ShiftLeft<4>(hn::And(high, nibble))),
                 block.q + 32 * pair + c);
    }
    StoreBytes(bits, block.qh + c);
  }
}

template <typename Block>
void EncodeAffine(const Weights& x, std::size_t n_blocks, std::byte* out) {
  using S = Sort<Block>;
  constexpr std::size_t kRuns = 256 / S::kRun;
  Columns<S::kRun> columns;
  Found found;
  const auto search = [&]() HWY_ATTR { return Search<S>(columns, found); };
  const auto encode = [&](const float* rows, std::size_t lane, Block& block) HWY_ATTR {
    std::array<StoredScale, kRuns> stored;
    StoreAffineScales<Block, kRuns>(std::span<const float, kRuns>(found.scale + lane, kRuns),
                                    std::span<const float, kRuns>(found.min + lane, kRuns), block,
                                    stored);
    Pack(Codes<S>(rows, stored, found, lane), block);
  };
  EncodeBatches<Block, S::kRun>(x, n_blocks, out, columns.x, search, encode);
}

#endif

void EncodeQ2_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeAffine<BlockQ2_K>(x, n_blocks, out);
}
void EncodeQ4_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeAffine<BlockQ4_K>(x, n_blocks, out);
}
void EncodeQ5_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeAffine<BlockQ5_K>(x, n_blocks, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(EncodeQ2_K);
HWY_EXPORT(EncodeQ4_K);
HWY_EXPORT(EncodeQ5_K);
}  // namespace

namespace simd {

void EncodeQ2_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ2_K)(x, n_blocks, out);
}
void EncodeQ4_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ4_K)(x, n_blocks, out);
}
void EncodeQ5_K(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeQ5_K)(x, n_blocks, out);
}

}  // namespace simd
}  // namespace phiq
#endif
