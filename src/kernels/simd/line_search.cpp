// Candidates are few and fixed, each is refined by least squares, rounded to what is stored, and
// judged by the error of the codes that are then nearest: so what is found is never worse than the
// first, the plain scale of the largest weight or of the range.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/line_search.cpp"
#include "kernels/simd/line_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "kernels/ggml_search.h"
#include "kernels/rounding.h"
#include "kernels/simd/foreach_target.h"
// After the list of instruction sets:
#include "kernels/simd/levels-inl.h"

#ifndef PHIQ_KERNELS_SIMD_LINE_SEARCH_CPP_
#define PHIQ_KERNELS_SIMD_LINE_SEARCH_CPP_
namespace phiq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kE4m3Overflow = 464.0F;  // half way from the largest to the 480 that would be next

// Scales without a sign, one at a time.
float StoredE4m3(float scale) noexcept { return E4m3ToFloat(FloatToE4m3(scale)); }
float StoredE8m0(float scale) noexcept {
  int exponent = 0;
  const float fraction = std::frexp(std::abs(scale), &exponent);  // in [0.5, 1)
  if (fraction > 0.75F) ++exponent;
  return std::ldexp(1.0F, std::clamp(exponent - 1, -127, 127));
}

// Where an extreme is laid.
std::pair<float, float> EndsOf(const LineSearch& search) noexcept {
  switch (search.levels) {
    case Levels::kIq4:
      return {-127.0F, 113.0F};
    case Levels::kE2m1:
      return {6.0F, 6.0F};
    case Levels::kE4m3:
      return {448.0F, 448.0F};
    case Levels::kIntegers:
      break;
  }
  return {static_cast<float>(-search.zero), static_cast<float>(search.last_code - search.zero)};
}

}  // namespace
}  // namespace phiq
#endif

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

using namespace levels;  // NOLINT(google-build-using-namespace)

// RoundToHalf of kernels/rounding.h.
HWY_INLINE F RoundedToHalf(F x) {
  const hn::RebindToSigned<Floats> di;
  const auto bits = hn::BitCast(di, x);
  const auto magnitude = hn::And(bits, hn::Set(di, 0x7FFFFFFF));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 1));
  const auto normal = hn::And(hn::Add(hn::Add(magnitude, hn::Set(di, 0xFFF)), odd),
                              hn::Set(di, ~std::int32_t{0x1FFF}));
  const F half = Set(0.5F);
  const auto subnormal =
      hn::BitCast(di, hn::Sub(hn::Add(hn::BitCast(kFloats, magnitude), half), half));
  const auto finite = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x38800000)), subnormal, normal);
  const auto rounded =
      hn::IfThenElse(hn::Lt(finite, hn::Set(di, 0x47800000)), finite, hn::Set(di, 0x7F800000));
  return hn::BitCast(kFloats, hn::Or(rounded, hn::AndNot(hn::Set(di, 0x7FFFFFFF), bits)));
}

HWY_INLINE F RoundedToBf16(F x) {
  const hn::RebindToUnsigned<Floats> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1U));
  return hn::BitCast(kFloats, hn::And(hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFU)), odd),
                                      hn::Set(du, 0xFFFF0000U)));
}

HWY_INLINE F EachStored(F scale, float (*store)(float) noexcept) {
  alignas(64) float values[kLanes];
  hn::Store(scale, kFloats, values);
  for (float& value : values) value = store(value);
  return hn::Load(kFloats, values);
}

HWY_INLINE F Rounded(ScaleType storage, F value) {
  switch (storage) {
    case ScaleType::kF32:
      return value;
    case ScaleType::kF16:
      return RoundedToHalf(value);
    case ScaleType::kBF16:
      return RoundedToBf16(value);
    case ScaleType::kE4M3:
      return EachStored(value, StoredE4m3);
    case ScaleType::kE8M0:
      return EachStored(value, StoredE8m0);
  }
  return value;
}

// Some of the runs, one to a lane.
struct Columns {
  HWY_INLINE Columns(const Runs& runs, std::size_t lane)
      : n(runs.n),
        x(runs.x + lane),
        h(runs.h + lane),
        magnified(hn::LoadU(kFloats, runs.magnified + lane)),
        unit(hn::Div(Set(1.0F), magnified)) {}

  F X(std::size_t c) const { return hn::LoadU(kFloats, x + c * kSearchRuns); }
  F H(std::size_t c) const { return hn::LoadU(kFloats, h + c * kSearchRuns); }

  std::size_t n;
  const float* x;
  const float* h;
  F magnified, unit;  // 1 / magnified
};

// A scale or an offset of magnified weights, as what is stored of it makes it.
HWY_INLINE F Stored(const LineSearch& search, const Columns& columns, F value) {
  if (search.is_positive || search.kind == LineKind::kUnsignedScale) value = hn::Abs(value);
  if (!search.storage) return value;
  F stored = Rounded(*search.storage, hn::Mul(value, columns.unit));
  if (search.is_positive) {
    const F least = Set(*search.storage == ScaleType::kF16 ? kLeastHalf
                                                           : std::numeric_limits<float>::min());
    stored = hn::IfThenElse(hn::Lt(stored, least), least, stored);
  }
  return hn::Mul(stored, columns.magnified);
}

struct Line {
  F scale;
  F offset;
};

// The first and the last level.
struct Span {
  F low;
  F high;
};

template <Levels kLevels>
HWY_INLINE F LevelOf(F v, const Span& span) {
  return NearestLevel<kLevels>(v, span.low, span.high).level;
}

template <Levels kLevels>
HWY_INLINE F ErrorOf(const Columns& columns, const Span& span, const Line& line) {
  const F inverse = Inverse(line.scale);
  F error = hn::Zero(kFloats);
  for (std::size_t c = 0; c < columns.n; ++c) {
    const F x = columns.X(c);
    const F level = LevelOf<kLevels>(hn::Mul(hn::Sub(x, line.offset), inverse), span);
    const F e = hn::Sub(hn::Add(hn::Mul(line.scale, level), line.offset), x);
    error = hn::Add(error, hn::Mul(columns.H(c), hn::Mul(e, e)));
  }
  return error;
}

// Keeps the line of least error: the first candidate, until one has a lower error. Where weights
// are beyond what a scale can hold, all errors are Inf or NaN, and so is the first candidate's
// scale.
struct Best {
  F scale, offset, zero, error;
  Mask is_set;

  HWY_INLINE Best() {
    scale = offset = zero = hn::Zero(kFloats);
    error = Set(kInfinity);
    is_set = hn::Gt(zero, zero);
  }

  HWY_INLINE void Take(Mask is_valid, const Line& line, F line_zero, F line_error) {
    const Mask is_first = hn::AndNot(is_set, is_valid);
    const Mask is_less = hn::And(is_valid, hn::Lt(line_error, error));
    const Mask is_taken = hn::Or(is_first, is_less);
    scale = hn::IfThenElse(is_taken, line.scale, scale);
    offset = hn::IfThenElse(is_taken, line.offset, offset);
    zero = hn::IfThenElse(is_taken, line_zero, zero);
    error = hn::IfThenElse(is_less, line_error, error);
    is_set = hn::Or(is_set, is_valid);
  }
};

struct Extremes {
  F low, high;
  Mask is_negligible;
};

HWY_INLINE Extremes ExtremesOf(const Columns& columns) {
  F low = columns.X(0), high = low;
  for (std::size_t c = 1; c < columns.n; ++c) {
    const F x = columns.X(c);
    low = hn::IfThenElse(hn::Lt(x, low), x, low);
    high = hn::IfThenElse(hn::Gt(x, high), x, high);
  }
  const F largest = hn::IfThenElse(hn::Gt(hn::Neg(low), high), hn::Neg(low), high);
  return {low, high, hn::Not(hn::Ge(largest, Set(kNegligible)))};
}

HWY_INLINE void Put(const LineSearch& search, const Columns& columns, const Best& best,
                    const Extremes& extremes, std::size_t lane, Lines& lines) {
  const bool has_no_zero = search.is_positive || search.storage == ScaleType::kE8M0;
  const F scale = hn::Mul(best.scale, columns.unit), offset = hn::Mul(best.offset, columns.unit);
  hn::StoreU(hn::IfThenElse(extremes.is_negligible, Set(has_no_zero ? 1.0F : 0.0F), scale), kFloats,
             lines.scale + lane);
  hn::StoreU(hn::IfThenZeroElse(extremes.is_negligible, offset), kFloats, lines.offset + lane);
  hn::StoreU(hn::IfThenZeroElse(extremes.is_negligible, best.zero), kFloats, lines.zero + lane);
}

// The scale that fits the levels which `scale` makes nearest.
struct Fit {
  F scale;
  F gain;  // what its error is below that of 0
};

template <Levels kLevels>
HWY_INLINE Fit FitScale(const Columns& columns, const Span& span, F scale) {
  const F inverse = Inverse(scale);
  F xq = hn::Zero(kFloats), qq = hn::Zero(kFloats);
  for (std::size_t c = 0; c < columns.n; ++c) {
    const F x = columns.X(c);
    const F level = LevelOf<kLevels>(hn::Mul(x, inverse), span);
    const F hq = hn::Mul(columns.H(c), level);
    xq = hn::Add(xq, hn::Mul(hq, x));
    qq = hn::Add(qq, hn::Mul(hq, level));
  }
  const Mask is_fit = hn::Gt(qq, hn::Zero(kFloats));
  const F fitted = hn::Div(xq, qq);
  return {hn::IfThenElse(is_fit, fitted, scale), hn::IfThenElseZero(is_fit, hn::Mul(xq, fitted))};
}

template <Levels kLevels>
void SearchScale(const LineSearch& search, const Columns& columns, std::size_t lane, Lines& lines) {
  const Extremes extremes = ExtremesOf(columns);
  const F zero = hn::Zero(kFloats);
  const F extreme = hn::IfThenElse(hn::Gt(hn::Abs(extremes.high), hn::Abs(extremes.low)),
                                   extremes.high, extremes.low);
  const Mask all = hn::Ge(zero, zero);
  const auto [low_end, high_end] = EndsOf(search);
  const Span span = {Set(low_end), Set(high_end)};
  Best best;
  const auto take = [&](F scale) {
    const Line line = {Stored(search, columns, scale), zero};
    best.Take(all, line, zero, ErrorOf<kLevels>(columns, span, line));
  };
  const bool is_fine = search.last_code >= 254;  // 8 bits: fewer candidates do
  // The gain says which is best at half the cost, where errors are large enough to show in it.
  const bool goes_by_gain = !search.storage && search.last_code <= 15;
  const int count = is_fine ? 8 : 14;
  const float step = is_fine ? 0.02F : 0.035F;
  const std::array<float, 2> ends = {low_end, high_end};
  for (std::size_t end = 0; end < (low_end == high_end ? 1 : 2); ++end) {
    F scale = hn::Div(extreme, Set(ends[end]));
    if (search.is_positive) scale = hn::Abs(scale);
    if (!goes_by_gain) take(scale);
    for (int i = 0; i < count; ++i) {
      const F factor = Set(1.05F - step * static_cast<float>(i));
      const Fit fit = FitScale<kLevels>(columns, span, hn::Mul(scale, factor));
      if (goes_by_gain) {
        best.Take(all, {fit.scale, zero}, zero, hn::Neg(fit.gain));
      } else {
        take(fit.scale);
      }
    }
  }
  if (search.storage == ScaleType::kE8M0) {  // powers of two are few: those beside
    const F middle = Stored(search, columns, hn::Div(hn::Abs(extreme), Set(high_end)));
    for (const float factor : {0.5F, 1.0F, 2.0F}) take(hn::Mul(middle, Set(factor)));
  }
  if (search.storage == ScaleType::kE4M3) {
    const Mask is_beyond =
        hn::Gt(hn::Mul(hn::Abs(extreme), columns.unit), Set(high_end * kE4m3Overflow));
    best.scale =
        hn::IfThenElse(is_beyond, Set(std::numeric_limits<float>::quiet_NaN()), best.scale);
  }
  Put(search, columns, best, extremes, lane, lines);
}

// Ranges shrunk from the low end, the high end and both, as they are (the first) and by nine
// factors.
template <class Use>
HWY_INLINE void ForEachRange(F low, F high, float last_code, const Use& use) {
  const auto line_of = [&](float low_factor, float high_factor) {
    const F first = hn::Mul(low, Set(low_factor)), last = hn::Mul(high, Set(high_factor));
    use(hn::Gt(last, first), Line{hn::Div(hn::Sub(last, first), Set(last_code)), first});
  };
  line_of(1.0F, 1.0F);
  for (int t = 0; t < 9; ++t) {
    const float factor = 1.04F - 0.05F * static_cast<float>(t);
    line_of(factor, 1.0F);
    line_of(1.0F, factor);
    line_of(factor, factor);
  }
}

// What of a fit is the same for every line.
struct Means {
  F sum_h, mean_x;
};
HWY_INLINE Means MeansOf(const Columns& columns) {
  F sum_h = hn::Zero(kFloats), sum_x = hn::Zero(kFloats);
  for (std::size_t c = 0; c < columns.n; ++c) {
    sum_h = hn::Add(sum_h, columns.H(c));
    sum_x = hn::Add(sum_x, hn::Mul(columns.H(c), columns.X(c)));
  }
  return {sum_h, hn::Div(sum_x, sum_h)};
}

// The line through the levels 0 ... last_code that `line` makes nearest.
HWY_INLINE Line FitLine(const Columns& columns, const Means& means, const Span& span,
                        const Line& line) {
  const F inverse = Inverse(line.scale);
  const auto level_of = [&](F x) {
    return LevelOf<Levels::kIntegers>(hn::Mul(hn::Sub(x, line.offset), inverse), span);
  };
  F sum_q = hn::Zero(kFloats);
  for (std::size_t c = 0; c < columns.n; ++c)
    sum_q = hn::Add(sum_q, hn::Mul(columns.H(c), level_of(columns.X(c))));
  const F mean_q = hn::Div(sum_q, means.sum_h);
  F xq = hn::Zero(kFloats), qq = hn::Zero(kFloats);
  for (std::size_t c = 0; c < columns.n; ++c) {
    const F x = columns.X(c);
    const F q = hn::Sub(level_of(x), mean_q);
    const F hq = hn::Mul(columns.H(c), q);
    xq = hn::Add(xq, hn::Mul(hq, hn::Sub(x, means.mean_x)));
    qq = hn::Add(qq, hn::Mul(hq, q));
  }
  const Mask is_line = hn::Gt(qq, hn::Zero(kFloats));
  const F scale = hn::Div(xq, qq);
  const F offset = hn::Sub(means.mean_x, hn::Mul(scale, mean_q));
  return {hn::IfThenElse(is_line, scale, line.scale), hn::IfThenElse(is_line, offset, line.offset)};
}

void SearchBias(const LineSearch& search, const Columns& columns, std::size_t lane, Lines& lines) {
  const Extremes extremes = ExtremesOf(columns);
  const F zero = hn::Zero(kFloats);
  const auto last_code = static_cast<float>(search.last_code);
  const Span span = {zero, Set(last_code)};
  const Means means = MeansOf(columns);
  Best best;
  const auto take = [&](Mask is_valid, const Line& line) {
    const Line stored = {Stored(search, columns, line.scale),
                         Stored(search, columns, line.offset)};
    best.Take(is_valid, stored, zero, ErrorOf<Levels::kIntegers>(columns, span, stored));
  };
  take(hn::Eq(extremes.low, extremes.high), {zero, extremes.low});  // a constant is its own bias
  // Ranges are shrunk towards their middle: they need not hold 0.
  const F half = Set(0.5F);
  const F middle = hn::Add(hn::Mul(half, extremes.low), hn::Mul(half, extremes.high));
  const F low = hn::Sub(extremes.low, middle), high = hn::Sub(extremes.high, middle);
  ForEachRange(low, high, last_code, [&](Mask is_valid, Line line) {
    line.offset = hn::Add(line.offset, middle);
    take(is_valid, line);
    for (int round = 0; round < 2; ++round) {
      line = FitLine(columns, means, span, line);
      take(is_valid, line);
    }
  });
  Put(search, columns, best, extremes, lane, lines);
}

void SearchZeroPoint(const LineSearch& search, const Columns& columns, std::size_t lane,
                     Lines& lines) {
  const Extremes extremes = ExtremesOf(columns);
  const F zero = hn::Zero(kFloats);
  const F low = hn::IfThenElse(hn::Lt(extremes.low, zero), extremes.low, zero);
  const F high = hn::IfThenElse(hn::Gt(extremes.high, zero), extremes.high, zero);
  const auto last_code = static_cast<float>(search.last_code);
  const F last = Set(last_code);
  const Means means = MeansOf(columns);
  Best best;
  const auto span_of = [&](F point) { return Span{hn::Neg(point), hn::Sub(last, point)}; };
  const auto point_of = [&](const Line& line) {
    return NearestInteger(Cut(hn::Mul(hn::Neg(line.offset), Inverse(line.scale)), zero, last));
  };
  const auto take = [&](Mask is_valid, F scale, F point) {
    const Line stored = {Stored(search, columns, scale), zero};
    best.Take(is_valid, stored, point, ErrorOf<Levels::kIntegers>(columns, span_of(point), stored));
  };
  ForEachRange(low, high, last_code, [&](Mask is_valid, Line line) {
    F point = point_of(line);
    take(is_valid, line.scale, point);
    for (int round = 0; round < 2; ++round) {
      line.offset = hn::Mul(hn::Neg(line.scale), point);
      line = FitLine(columns, means, {zero, last}, line);
      point = point_of(line);
      line.scale = FitScale<Levels::kIntegers>(columns, span_of(point), line.scale).scale;
      take(is_valid, line.scale, point);
    }
  });
  Put(search, columns, best, extremes, lane, lines);
}

// llama-quantize's search for affine runs with an importance matrix: SearchAffine of
// kernels/ggml_search.cpp, with this h.
void SearchMin(const LineSearch& search, const Columns& columns, std::size_t lane, Lines& lines) {
  constexpr int kSteps = 36;
  const F zero = hn::Zero(kFloats);
  const Extremes extremes = ExtremesOf(columns);
  const F high = extremes.high;
  const F low = hn::IfThenElse(hn::Gt(extremes.low, zero), zero, extremes.low);
  const Means means = MeansOf(columns);
  const F sum_x = hn::Mul(means.sum_h, means.mean_x);
  const auto last_code = static_cast<float>(search.last_code);
  const Span span = {zero, Set(last_code)};
  const auto code_of = [&](F x, F inverse, F min) {
    return LevelOf<Levels::kIntegers>(hn::Mul(inverse, hn::Sub(x, min)), span);
  };
  // Of codes under one line, values under another.
  const auto error_of = [&](F inverse, F min, const Line& line) {
    F error = zero;
    for (std::size_t c = 0; c < columns.n; ++c) {
      const F x = columns.X(c);
      const F value = hn::Add(hn::Mul(line.scale, code_of(x, inverse, min)), line.offset);
      const F e = hn::Sub(value, x);
      error = hn::Add(error, hn::Mul(columns.H(c), hn::Mul(e, e)));
    }
    return error;
  };
  const F first_inverse = hn::Div(Set(last_code), hn::Sub(high, low));
  Line best = {hn::Div(Set(1.0F), first_inverse), low};
  F least = error_of(first_inverse, low, best);
  for (int step = 0; step <= kSteps; ++step) {
    const F divisor = Set(-0.9F + 0.05F * static_cast<float>(step) + last_code);
    // The best min, not low: an accepted candidate moves the grid of those after it.
    const F min = best.offset;
    const F inverse = hn::Div(divisor, hn::Sub(high, min));
    F sum_q = zero, sum_qq = zero, sum_qx = zero;
    for (std::size_t c = 0; c < columns.n; ++c) {
      const F x = columns.X(c);
      const F q = code_of(x, inverse, min);
      const F hq = hn::Mul(columns.H(c), q);
      sum_q = hn::Add(sum_q, hq);
      sum_qq = hn::Add(sum_qq, hn::Mul(hq, q));
      sum_qx = hn::Add(sum_qx, hn::Mul(hq, x));
    }
    const F determinant = hn::Sub(hn::Mul(means.sum_h, sum_qq), hn::Mul(sum_q, sum_q));
    const Mask is_line = hn::Gt(determinant, zero);
    Line line = {hn::Div(hn::Sub(hn::Mul(means.sum_h, sum_qx), hn::Mul(sum_x, sum_q)), determinant),
                 hn::Div(hn::Sub(hn::Mul(sum_qq, sum_x), hn::Mul(sum_q, sum_qx)), determinant)};
    const Mask is_above = hn::Gt(line.offset, zero);
    line.scale = hn::IfThenElse(is_above, hn::Div(sum_qx, sum_qq), line.scale);
    line.offset = hn::IfThenZeroElse(is_above, line.offset);
    const F error = error_of(inverse, min, line);
    const Mask is_taken = hn::And(is_line, hn::Lt(error, least));
    best.scale = hn::IfThenElse(is_taken, line.scale, best.scale);
    best.offset = hn::IfThenElse(is_taken, line.offset, best.offset);
    least = hn::IfThenElse(is_taken, error, least);
  }
  // A constant that is not above 0 is all min, and zeros are nothing.
  const Mask is_flat = hn::Eq(high, low);
  hn::StoreU(hn::IfThenZeroElse(is_flat, best.scale), kFloats, lines.scale + lane);
  hn::StoreU(hn::IfThenElse(is_flat, low, best.offset), kFloats, lines.offset + lane);
  hn::StoreU(zero, kFloats, lines.zero + lane);
}

template <Levels kLevels>
void SearchOfLevels(const LineSearch& search, const Columns& columns, std::size_t lane,
                    Lines& lines) {
  switch (search.kind) {
    case LineKind::kScale:
    case LineKind::kUnsignedScale:
      return SearchScale<kLevels>(search, columns, lane, lines);
    case LineKind::kZeroPoint:
      return SearchZeroPoint(search, columns, lane, lines);
    case LineKind::kBias:
      return SearchBias(search, columns, lane, lines);
    case LineKind::kMin:
      return SearchMin(search, columns, lane, lines);
  }
}

// use(std::integral_constant<Levels, ...>)
template <class Use>
HWY_INLINE void WithLevels(Levels levels, const Use& use) {
  switch (levels) {
    case Levels::kIntegers:
      return use(std::integral_constant<Levels, Levels::kIntegers>());
    case Levels::kIq4:
      return use(std::integral_constant<Levels, Levels::kIq4>());
    case Levels::kE2m1:
      return use(std::integral_constant<Levels, Levels::kE2m1>());
    case Levels::kE4m3:
      return use(std::integral_constant<Levels, Levels::kE4m3>());
  }
}

void SearchLines(const LineSearch& search, const Runs& runs, Lines& lines) {
  WithLevels(search.levels, [&](auto levels) {
    for (std::size_t lane = 0; lane < kSearchRuns; lane += kLanes)
      SearchOfLevels<levels()>(search, Columns(runs, lane), lane, lines);
  });
}

void ErrorsOf(const LineSearch& search, const Runs& runs, const Lines& lines, float* errors) {
  const auto low = static_cast<float>(-search.zero);
  const Span span = {Set(low), Set(low + static_cast<float>(search.last_code))};
  WithLevels(search.levels, [&](auto levels) {
    for (std::size_t lane = 0; lane < kSearchRuns; lane += kLanes) {
      const Line line = {hn::LoadU(kFloats, lines.scale + lane),
                         hn::LoadU(kFloats, lines.offset + lane)};
      const Columns columns(runs, lane);
      hn::StoreU(ErrorOf<levels()>(columns, span, line), kFloats, errors + lane);
    }
  });
}

}  // namespace
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
HWY_EXPORT(SearchLines);
HWY_EXPORT(ErrorsOf);

void SearchLines(const LineSearch& search, const Runs& runs, Lines& lines) {
  HWY_DYNAMIC_DISPATCH(SearchLines)(search, runs, lines);
}

void ErrorsOf(const LineSearch& search, const Runs& runs, const Lines& lines, float* errors) {
  HWY_DYNAMIC_DISPATCH(ErrorsOf)(search, runs, lines, errors);
}

}  // namespace phiq
#endif
