// Integer groups whose codes are made in double: onnxruntime's "k_quant", a search
// (kernels/k_quant_blocks.cpp), with a group in each lane, and its "rtn" (kernels/rtn_blocks.cpp).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/double_groups.cpp"
#include <algorithm>

#include "kernels/bits.h"
#include "kernels/rtn_blocks.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/groups.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR

bool EncodeRtn(const GroupSpec&, std::size_t, const Weights&, std::size_t,
               const simd::GroupArrays&) {
  return false;
}
bool EncodeKQuant(const GroupSpec&, std::size_t, const Weights&, std::size_t,
                  const simd::GroupArrays&) {
  return false;
}

#else

// Groups of a batch: numpy's eight running sums are as many chains of additions, so one vector at a
// time keeps the units busy.
constexpr std::size_t kGroups = kLanes;
constexpr std::size_t kRunningSums = 8;

// Weights of a batch as values of `type`, one group after the other.
HWY_INLINE void CopyRounded(ScaleType type, const Weights& x, std::size_t n, float* to) {
  CopyAsFloats(x, n, to);
  if (type != ScaleType::kF16) return;
  for (std::size_t i = 0; i < n; ++i) to[i] = RoundToHalf(to[i]);
}

// EncodeInDouble. n: a multiple of 16.
HWY_INLINE void CodesInDouble(const float* x, std::size_t n, double scale, std::uint8_t zero_point,
                              int last_code, std::uint8_t* codes) {
  const hn::Half<Floats> d32;
  const hn::Rebind<double, hn::Half<Floats> > d64;
  const hn::Rebind<std::int32_t, hn::Half<Floats> > di32;
  using V = hn::Vec<decltype(d64)>;
  const V divisor = hn::Set(d64, scale);
  const V zero = hn::Set(d64, static_cast<double>(zero_point));
  const V top = hn::Set(d64, static_cast<double>(last_code));
  const V shift = hn::Set(d64, 0x1.8p52);
  alignas(64) std::int32_t whole[kMaxGroupSize];
  for (std::size_t i = 0; i < n; i += hn::MaxLanes(d64)) {
    const V weight = hn::PromoteTo(d64, hn::Load(d32, x + i));
    const V v = hn::Add(hn::Div(weight, divisor), zero);
    const V low = hn::IfThenElseZero(hn::Gt(v, hn::Zero(d64)), v);
    const V rounded = hn::Sub(hn::Add(hn::Min(low, top), shift), shift);
    hn::Store(hn::DemoteTo(di32, rounded), di32, whole + i);
  }
  for (std::size_t i = 0; i < n; i += kLanes) StoreBytes(hn::Load(Ints(), whole + i), codes + i);
}

// A batch in columns: element c of lane l at [c * kGroups + l].
struct Columns {
  alignas(64) float x[kMaxGroupSize * kGroups];
  alignas(64) float weight[kMaxGroupSize * kGroups];
  alignas(64) float code[kMaxGroupSize * kGroups];
};

HWY_INLINE F Fold(const F* sums) {
  return hn::Add(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])),
                 hn::Add(hn::Add(sums[4], sums[5]), hn::Add(sums[6], sums[7])));
}

// Sums of `term`(element) over elements first to first + n - 1, in numpy's order.
template <typename Term>
HWY_INLINE F SumUpTo128(std::size_t first, std::size_t n, const Term& term) {
  F sums[kRunningSums];
  for (std::size_t j = 0; j < kRunningSums; ++j) sums[j] = term(first + j);
  for (std::size_t i = kRunningSums; i < n; i += kRunningSums)
    for (std::size_t j = 0; j < kRunningSums; ++j) sums[j] = hn::Add(sums[j], term(first + i + j));
  return Fold(sums);
}
template <typename Term>
HWY_INLINE F Sum(std::size_t n, const Term& term) {
  if (n <= 128) return SumUpTo128(0, n, term);
  return hn::Add(SumUpTo128(0, n / 2, term), SumUpTo128(n / 2, n / 2, term));
}

struct Sums {
  F q, qq, xq;
};

// The search of k_quant_blocks.cpp for every lane. NaNs arise and lose every comparison there as
// here: Max and Min below have the constant first, which lets NaN pass.
class Search {
 public:
  Search(Columns& columns, std::size_t n, int last_code)
      : columns_(columns), n_(n), last_code_(static_cast<float>(last_code)) {}

  HWY_INLINE void Run() {
    const auto x = [this](std::size_t c) HWY_ATTR { return Load(columns_.x + c * kGroups); };
    const auto weight = [this](std::size_t c)
                            HWY_ATTR { return Load(columns_.weight + c * kGroups); };
    const F squares = Sum(n_, [&](std::size_t c) HWY_ATTR { return hn::Mul(x(c), x(c)); });
    const F average = hn::Sqrt(hn::Div(squares, Set(static_cast<float>(n_))));
    F low = x(0), high = x(0);
    for (std::size_t c = 0; c < n_; ++c) {
      Store(hn::Add(average, hn::Abs(x(c))), columns_.weight + c * kGroups);
      low = hn::Min(low, x(c));
      high = hn::Max(high, x(c));
    }
    sum_w_ = Sum(n_, weight);
    sum_x_ = Sum(n_, [&](std::size_t c) HWY_ATTR { return hn::Mul(weight(c), x(c)); });

    min_ = low;
    F inv_scale = InverseScale(last_code_, high);
    scale_ = hn::Div(Set(1.0F), inv_scale);
    EncodeAndSum(inv_scale);
    F least = Error(scale_, min_);
    for (int trial = 0; trial < 20; ++trial) {
      const double steps = -1.0 + 0.1 * trial + static_cast<double>(last_code_);
      inv_scale = InverseScale(static_cast<float>(steps), high);
      const Sums sums = EncodeAndSum(inv_scale);  // from the min of the best trial so far
      const F d = hn::Sub(hn::Mul(sum_w_, sums.qq), hn::Mul(sums.q, sums.q));
      const F scale = hn::Div(hn::Sub(hn::Mul(sum_w_, sums.xq), hn::Mul(sum_x_, sums.q)), d);
      const F min = hn::Div(hn::Sub(hn::Mul(sums.qq, sum_x_), hn::Mul(sums.q, sums.xq)), d);
      const F error = Error(scale, min);
      const FloatMask is_better = hn::Lt(error, least);
      least = hn::IfThenElse(is_better, error, least);
      scale_ = hn::IfThenElse(is_better, scale, scale_);
      min_ = hn::IfThenElse(is_better, min, min_);
    }
  }

  F scale() const { return scale_; }
  F min() const { return min_; }

 private:
  HWY_INLINE F InverseScale(float steps, F high) const {
    return hn::IfThenElse(hn::Ne(min_, high), hn::Div(Set(steps), hn::Sub(high, min_)), Set(1.0F));
  }

  // Keeps the codes, too.
  HWY_INLINE Sums EncodeAndSum(F inv_scale) {
    if (n_ <= 128) return EncodeAndSumUpTo128(inv_scale, 0, n_);
    const Sums first = EncodeAndSumUpTo128(inv_scale, 0, n_ / 2);
    const Sums second = EncodeAndSumUpTo128(inv_scale, n_ / 2, n_ / 2);
    return {hn::Add(first.q, second.q), hn::Add(first.qq, second.qq), hn::Add(first.xq, second.xq)};
  }

  HWY_INLINE Sums EncodeAndSumUpTo128(F inv_scale, std::size_t first, std::size_t n) {
    F q[kRunningSums], qq[kRunningSums], xq[kRunningSums];
    // Four of the running sums at a time: twelve registers.
    for (std::size_t half = 0; half < kRunningSums; half += 4) {
      for (std::size_t j = half; j < half + 4; ++j) {
        const Sums terms = Terms(inv_scale, first + j);
        q[j] = terms.q;
        qq[j] = terms.qq;
        xq[j] = terms.xq;
      }
      for (std::size_t i = kRunningSums; i < n; i += kRunningSums) {
        for (std::size_t j = half; j < half + 4; ++j) {
          const Sums terms = Terms(inv_scale, first + i + j);
          q[j] = hn::Add(q[j], terms.q);
          qq[j] = hn::Add(qq[j], terms.qq);
          xq[j] = hn::Add(xq[j], terms.xq);
        }
      }
    }
    return {Fold(q), Fold(qq), Fold(xq)};
  }

  HWY_INLINE Sums Terms(F inv_scale, std::size_t c) {
    const F shift = Set(12582912.0F);  // 1.5 * 2^23: to nearest, ties to even
    const F x = Load(columns_.x + c * kGroups);
    const F v = hn::Mul(inv_scale, hn::Sub(x, min_));
    const F cut = hn::Min(Set(last_code_), hn::Max(Set(0.0F), v));
    const F code = hn::Sub(hn::Add(cut, shift), shift);
    Store(code, columns_.code + c * kGroups);
    const F weighted = hn::Mul(Load(columns_.weight + c * kGroups), code);
    return {weighted, hn::Mul(weighted, code), hn::Mul(weighted, x)};
  }

  HWY_INLINE F Error(F scale, F min) const {
    return Sum(n_, [&](std::size_t c) HWY_ATTR {
      const std::size_t at = c * kGroups;
      const F line = hn::Add(hn::Mul(scale, Load(columns_.code + at)), min);
      const F difference = hn::Sub(line, Load(columns_.x + at));
      return hn::Mul(Load(columns_.weight + at), hn::Mul(difference, difference));
    });
  }

  Columns& columns_;
  std::size_t n_;
  float last_code_;
  F sum_w_, sum_x_, scale_, min_;
};

bool EncodeKQuant(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const simd::GroupArrays& out) {
  alignas(64) float rows[kMaxGroupSize * kGroups];
  Columns columns;
  const int last_code = LastCode(spec);
  const std::size_t code_bytes = PackedBytes(spec.bits, group_size);
  for (std::size_t g = 0; g < n_groups; g += kGroups) {
    const std::size_t n = std::min(kGroups, n_groups - g);
    CopyRounded(spec.scale, x.From(g * group_size), n * group_size, rows);
    std::fill(rows + n * group_size, rows + kGroups * group_size, 0.0F);
    for (std::size_t l = 0; l < kGroups; ++l)
      for (std::size_t c = 0; c < group_size; ++c)
        columns.x[c * kGroups + l] = rows[l * group_size + c];
    Search search(columns, group_size, last_code);
    search.Run();
    alignas(64) float scales[kGroups], quotients[kGroups];
    Store(search.scale(), scales);
    Store(hn::Div(hn::Neg(search.min()), search.scale()), quotients);
    for (std::size_t l = 0; l < n; ++l) {
      const std::uint8_t zero_point = RoundToEvenCode(quotients[l], static_cast<float>(last_code));
      std::uint8_t codes[kMaxGroupSize];
      CodesInDouble(rows + l * group_size, group_size, static_cast<double>(scales[l]), zero_point,
                    last_code, codes);
      PackBits(spec.bits, {codes, group_size}, {out.codes + (g + l) * code_bytes, code_bytes});
      out.scales[g + l] = RoundTo(spec.scale, scales[l]);
      out.zero_points[g + l] = zero_point;
    }
  }
  return true;
}

bool EncodeRtn(const GroupSpec& spec, std::size_t group_size, const Weights& x,
               std::size_t n_groups, const simd::GroupArrays& out) {
  alignas(64) float row[kMaxGroupSize];
  const std::size_t code_bytes = PackedBytes(spec.bits, group_size);
  for (std::size_t g = 0; g < n_groups; ++g) {
    CopyRounded(spec.scale, x.From(g * group_size), group_size, row);
    const RtnScale group = RtnScaleOf(spec, RangeOf({row, group_size}));
    std::uint8_t codes[kMaxGroupSize];
    CodesInDouble(row, group_size, group.scale, group.zero_point, LastCode(spec), codes);
    PackBits(spec.bits, {codes, group_size}, {out.codes + g * code_bytes, code_bytes});
    out.scales[g] = RoundTo(spec.scale, group.scale);
    out.zero_points[g] = group.zero_point;
  }
  return true;
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(EncodeRtn);
HWY_EXPORT(EncodeKQuant);
}  // namespace

namespace simd {

bool EncodeRtn(const GroupSpec& spec, std::size_t group_size, const Weights& x,
               std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeRtn)(spec, group_size, x, n_groups, out);
}
bool EncodeKQuant(const GroupSpec& spec, std::size_t group_size, const Weights& x,
                  std::size_t n_groups, const GroupArrays& out) {
  return HWY_DYNAMIC_DISPATCH(EncodeKQuant)(spec, group_size, x, n_groups, out);
}

}  // namespace simd
}  // namespace phiq
#endif
