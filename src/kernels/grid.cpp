// Searches for scales in any encoding. Candidates are few and fixed, each is refined by least
// squares, rounded to what is stored, and judged by the error of the codes that are then nearest:
// so what is found is never worse than what it began with. Sums run in eight lanes, in an order
// that no instruction set changes.
#include "kernels/grid.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/half.h"
#include "kernels/bits.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_pack.h"
#include "kernels/ggml_plain.h"
#include "kernels/ggml_search.h"
#include "kernels/integer_methods.h"
#include "kernels/rounding.h"
#include "kernels/scale_type.h"
#include "kernels/small_floats.h"

namespace phiq {
namespace {

constexpr std::size_t kLanes = 8;  // sums of their own, which compilers make SIMD of

// Sum of term(c) over c in [0, n).
template <typename Term>
float SumOf(std::size_t n, const Term& term) noexcept {
  float sums[kLanes] = {};
  std::size_t c = 0;
  for (; c + kLanes <= n; c += kLanes)
    for (std::size_t i = 0; i < kLanes; ++i) sums[i] += term(c + i);
  for (; c < n; ++c) sums[0] += term(c);
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

// Levels of `low` ... `high`.
struct IntegerLevels {
  float low;
  float high;
  float operator()(float v) const noexcept {  // nearest; ties to even; 0 becomes of NaN
    const float above = v > low ? v : low;
    const float cut = above < high ? above : high;
    return (cut + 12582912.0F) - 12582912.0F;  // 1.5 * 2^23
  }
};

std::uint8_t NearestIq4Code(float v) noexcept {
  int code = 0;
  for (std::size_t i = 0; i + 1 < std::size(kIq4Values); ++i)
    code += v >= 0.5F * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]) ? 1 : 0;
  return static_cast<std::uint8_t>(code);
}

// Ties go to the smaller magnitude; there is no negative zero.
std::uint8_t NearestE2m1Code(float v) noexcept {
  constexpr float kBorders[] = {0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F};
  int code = 0;
  for (const float border : kBorders) code += std::abs(v) > border ? 1 : 0;
  return static_cast<std::uint8_t>(v < 0.0F && code > 0 ? code + 8 : code);
}

struct Iq4Levels {
  float operator()(float v) const noexcept { return kIq4Values[NearestIq4Code(v)]; }
};
struct E2m1Levels {
  float operator()(float v) const noexcept { return kE2m1Values[NearestE2m1Code(v)]; }
};
struct E4m3Levels {
  float operator()(float v) const noexcept { return E4m3ToFloat(FloatToE4m3(v)); }
};

float Inverse(float scale) noexcept {
  const float inverse = 1.0F / scale;
  return std::abs(inverse) <= std::numeric_limits<float>::max() ? inverse : 0.0F;
}

// A run of weights, and what their errors count.
struct Run {
  std::span<const float> x;
  std::span<const float> h;

  Run Part(std::size_t begin, std::size_t size) const noexcept {
    return {x.subspan(begin, size), h.subspan(begin, size)};
  }
};

// Of scale * level + offset with the nearest levels.
template <typename LevelOf>
float ErrorOf(Run run, const LevelOf& level_of, float scale, float offset) noexcept {
  const float inverse = Inverse(scale);
  const float *x = run.x.data(), *h = run.h.data();
  return SumOf(run.x.size(), [&](std::size_t c) {
    const float e = scale * level_of((x[c] - offset) * inverse) + offset - x[c];
    return h[c] * (e * e);
  });
}

// Keeps the line of least error: the first candidate, until one has a lower error. Where weights
// are beyond what a scale can hold, all errors are Inf or NaN, and so is the first candidate's
// scale.
struct Best {
  float scale = 0;
  float offset = 0;
  float error = std::numeric_limits<float>::infinity();
  bool is_set = false;

  // True when the candidate is the best so far.
  bool Take(float candidate_scale, float candidate_offset, float candidate_error) noexcept {
    if (is_set && !(candidate_error < error)) return false;
    scale = candidate_scale;
    offset = candidate_offset;
    if (candidate_error < error) error = candidate_error;
    return is_set = true;
  }
};

// --- one scale ------------------------------------------------------------------------------

// The candidates: `count` factors from 1.05 down.
struct Factors {
  int count;
  float step;
};
constexpr Factors kWide = {14, 0.035F};
constexpr Factors kNarrow = {8, 0.02F};  // 8 bits

// The scale that fits the levels which `scale` makes nearest.
template <typename LevelOf>
float FitScale(Run run, const LevelOf& level_of, float scale) noexcept {
  const float inverse = Inverse(scale);
  const float *x = run.x.data(), *h = run.h.data();
  const float xq =
      SumOf(run.x.size(), [&](std::size_t c) { return h[c] * x[c] * level_of(x[c] * inverse); });
  const float qq = SumOf(run.x.size(), [&](std::size_t c) {
    const float q = level_of(x[c] * inverse);
    return h[c] * q * q;
  });
  return qq > 0.0F ? xq / qq : scale;
}

// `ends`   levels that the extreme is laid on, one after the other.
// `store`  a scale as it is stored.
template <typename LevelOf, typename Store>
Best SearchScale(Run run, const LevelOf& level_of, std::span<const float> ends, Factors factors,
                 const Store& store) noexcept {
  Best best;
  const float extreme = ExtremeOf(run.x);
  if (!(std::abs(extreme) >= kNegligible)) {
    best.Take(0.0F, 0.0F, 0.0F);
    return best;
  }
  const auto take = [&](float scale) {
    const float stored = store(scale);
    best.Take(stored, 0.0F, ErrorOf(run, level_of, stored, 0.0F));
  };
  for (const float end : ends) {
    take(extreme / end);
    for (int i = 0; i < factors.count; ++i) {
      const float factor = 1.05F - factors.step * static_cast<float>(i);
      take(FitScale(run, level_of, extreme / end * factor));
    }
  }
  return best;
}

// --- scale and offset -----------------------------------------------------------------------

struct Line {
  float scale;
  float offset;
};

// The line through the levels that `line` makes nearest.
Line FitLine(Run run, const IntegerLevels& level_of, Line line) noexcept {
  const float inverse = Inverse(line.scale);
  const float *x = run.x.data(), *h = run.h.data();
  const auto level = [&](std::size_t c) { return level_of((x[c] - line.offset) * inverse); };
  const std::size_t n = run.x.size();
  const float sum_h = SumOf(n, [&](std::size_t c) { return h[c]; });
  const float mean_q = SumOf(n, [&](std::size_t c) { return h[c] * level(c); }) / sum_h;
  const float mean_x = SumOf(n, [&](std::size_t c) { return h[c] * x[c]; }) / sum_h;
  const float qq = SumOf(n, [&](std::size_t c) {
    const float q = level(c) - mean_q;
    return h[c] * q * q;
  });
  const float xq =
      SumOf(n, [&](std::size_t c) { return h[c] * (x[c] - mean_x) * (level(c) - mean_q); });
  if (!(qq > 0.0F)) return line;
  const float scale = xq / qq;
  return {scale, mean_x - scale * mean_q};
}

// Ranges shrunk from the low end, the high end and both; `refine(line)` rounds a line to what is
// stored, and says its error.
template <typename Refine>
void ForEachRange(float low, float high, float last_code, const Refine& refine) noexcept {
  if (high > low) refine(Line{(high - low) / last_code, low});
  for (int t = 0; t < 9; ++t) {
    const float factor = 1.04F - 0.05F * static_cast<float>(t);
    for (const auto& [l, u] : {std::pair(factor, 1.0F), {1.0F, factor}, {factor, factor}}) {
      const float first = low * l, last = high * u;
      if (last > first) refine(Line{(last - first) / last_code, first});
    }
  }
}

// With a bias, or GGUF's m. A constant run is its own bias.
template <typename Store>
Best SearchBiased(Run run, int last_code, const Store& store) noexcept {
  const Range range = RangeOf(run.x);
  const auto last = static_cast<float>(last_code);
  const IntegerLevels level_of = {0.0F, last};
  Best best;
  const auto take = [&](Line line) {
    const float scale = store(line.scale), offset = store(line.offset);
    best.Take(scale, offset, ErrorOf(run, level_of, scale, offset));
  };
  if (!(std::max(-range.low, range.high) >= kNegligible)) {
    best.Take(0.0F, 0.0F, 0.0F);
    return best;
  }
  if (range.low == range.high) take({0.0F, range.low});
  // Ranges are shrunk towards their middle: they need not hold 0.
  const float middle = 0.5F * range.low + 0.5F * range.high;
  ForEachRange(range.low - middle, range.high - middle, last, [&](Line line) {
    line.offset += middle;
    take(line);
    for (int round = 0; round < 2; ++round) {
      line = FitLine(run, level_of, line);
      take(line);
    }
  });
  return best;
}

// With a zero point; `zero` is what the best line has.
template <typename Store>
Best SearchZeroPoint(Run run, int last_code, const Store& store, int& zero) noexcept {
  const Range range = RangeOf(run.x);
  const float low = std::min(range.low, 0.0F), high = std::max(range.high, 0.0F);
  const auto last = static_cast<float>(last_code);
  Best best;
  zero = 0;
  if (!(std::max(-low, high) >= kNegligible)) {
    best.Take(0.0F, 0.0F, 0.0F);
    return best;
  }
  const auto take = [&](float scale, int z) {
    const float stored = store(scale);
    const IntegerLevels level_of = {-static_cast<float>(z), last - static_cast<float>(z)};
    if (best.Take(stored, 0.0F, ErrorOf(run, level_of, stored, 0.0F))) zero = z;
  };
  ForEachRange(low, high, last, [&](Line line) {
    int z = RoundToEvenCode(-line.offset * Inverse(line.scale), last);
    take(line.scale, z);
    for (int round = 0; round < 2; ++round) {
      line = FitLine(run, {0.0F, last}, {line.scale, -line.scale * static_cast<float>(z)});
      z = RoundToEvenCode(-line.offset * Inverse(line.scale), last);
      const IntegerLevels level_of = {-static_cast<float>(z), last - static_cast<float>(z)};
      line.scale = FitScale(run, level_of, line.scale);
      take(line.scale, z);
    }
  });
  return best;
}

// --- scales of groups -----------------------------------------------------------------------

float StoredScale(ScaleType type, float scale) noexcept {
  switch (type) {
    case ScaleType::kF32:
      return scale;
    case ScaleType::kF16:
      return RoundToHalf(scale);
    case ScaleType::kBF16:
      return RoundToBf16(scale);
    case ScaleType::kE4M3:
      return E4m3ToFloat(FloatToE4m3(scale));
    case ScaleType::kE8M0:
      break;
  }
  int exponent = 0;
  const float fraction = std::frexp(std::abs(scale), &exponent);  // in [0.5, 1)
  if (fraction > 0.75F) ++exponent;
  return std::ldexp(1.0F, std::clamp(exponent - 1, -127, 127));
}

constexpr float kE4m3Overflow = 464.0F;  // half way from the largest to the 480 that would be next

template <typename LevelOf>
Best SearchSmallFloats(Run run, ScaleType type, float largest) noexcept {
  const float ends[] = {largest};
  if (type == ScaleType::kE4M3 && std::abs(ExtremeOf(run.x)) > largest * kE4m3Overflow) {
    Best none;
    none.Take(std::numeric_limits<float>::quiet_NaN(), 0.0F, 0.0F);
    return none;
  }
  // Scales of these types have no sign: the extreme's goes into the codes.
  Best best = SearchScale(run, LevelOf{}, ends, kWide,
                          [&](float scale) { return StoredScale(type, std::abs(scale)); });
  // Powers of two are few: those beside the one that holds the extreme.
  if (type != ScaleType::kE8M0) return best;
  if (best.scale == 0.0F) {  // which E8M0 does not have
    best.scale = 1.0F;
    return best;
  }
  const float middle = StoredScale(type, std::abs(ExtremeOf(run.x)) / largest);
  for (const float factor : {0.5F, 1.0F, 2.0F}) {
    const float scale = StoredScale(type, middle * factor);
    best.Take(scale, 0.0F, ErrorOf(run, LevelOf{}, scale, 0.0F));
  }
  return best;
}

Grid ChooseGroup(const GroupEncoding& groups, Run run) noexcept {
  const auto store = [&](float scale) { return StoredScale(groups.scale, scale); };
  const int bits = BitsOf(groups.code);
  Grid grid;
  grid.run_size = run.x.size();
  grid.last_code = (1 << bits) - 1;
  Best best;
  if (groups.code == Code::kE2M1) {
    grid.levels = Levels::kE2m1;
    best = SearchSmallFloats<E2m1Levels>(run, groups.scale, 6.0F);
  } else if (groups.code == Code::kE4M3) {
    grid.levels = Levels::kE4m3;
    best = SearchSmallFloats<E4m3Levels>(run, groups.scale, 448.0F);
  } else if (groups.offset == Offset::kBias) {
    best = SearchBiased(run, grid.last_code, store);
  } else if (groups.offset == Offset::kZeroPoint) {
    best = SearchZeroPoint(run, grid.last_code, store, grid.zero);
  } else {
    const auto middle = static_cast<float>(1 << (bits - 1));
    const float ends[] = {-middle, middle - 1.0F};
    grid.zero = 1 << (bits - 1);
    best = SearchScale(run, IntegerLevels{-middle, middle - 1.0F}, ends,
                       bits == 8 ? kNarrow : kWide, store);
  }
  grid.scale = grid.scales[0] = best.scale;
  grid.offset = grid.offsets[0] = best.offset;
  return grid;
}

// --- GGUF's blocks --------------------------------------------------------------------------

float StoredHalf(float x) noexcept { return RoundToHalf(x); }

// One scale, or a scale and m, for 32 weights.
Grid ChooseSimple(GgmlType type, Run run) noexcept {
  Grid grid;
  grid.run_size = run.x.size();
  Best best;
  const auto symmetric = [&](int zero, int last_code, float low, Factors factors) {
    const float high = static_cast<float>(last_code - zero);
    const float ends[] = {low, high};
    grid.zero = zero;
    grid.last_code = last_code;
    best = SearchScale(run, IntegerLevels{low, high}, ends, factors, StoredHalf);
  };
  const auto biased = [&](int last_code) {
    grid.last_code = last_code;
    best = SearchBiased(run, last_code, StoredHalf);
  };
  switch (type) {
    case GgmlType::kQ4_0:
      symmetric(8, 15, -8.0F, kWide);
      break;
    case GgmlType::kQ5_0:
      symmetric(16, 31, -16.0F, kWide);
      break;
    case GgmlType::kQ8_0:  // llama.cpp's kernels negate codes: -128 is not used
      symmetric(127, 254, -127.0F, kNarrow);
      break;
    case GgmlType::kQ4_1:
      biased(15);
      break;
    case GgmlType::kQ5_1:
      biased(31);
      break;
    default: {  // kIQ4_NL
      constexpr float kEnds[] = {-127.0F, 113.0F};
      grid.levels = Levels::kIq4;
      grid.last_code = 15;
      best = SearchScale(run, Iq4Levels{}, kEnds, kWide, StoredHalf);
      break;
    }
  }
  grid.scale = grid.scales[0] = best.scale;
  grid.offset = grid.offsets[0] = best.offset;
  return grid;
}

// Two levels: runs of a super-block have integers that multiply its scale (and min). Of each run
// the integers around the one nearest to its own scale are tried, down to the error of its codes.
struct TwoLevels {
  std::size_t run_size;
  int low, high;  // the integers
  int reach;      // how far around is looked
};

template <typename LevelOf>
void ChooseIntegers(Run run, const TwoLevels& kind, const LevelOf& level_of,
                    std::span<const float> wanted, Grid& grid) noexcept {
  const float inverse = Inverse(grid.scale);
  for (std::size_t r = 0; r < wanted.size(); ++r) {
    const Run part = run.Part(r * kind.run_size, kind.run_size);
    const int nearest = NearestInt(std::clamp(wanted[r] * inverse, -128.0F, 127.0F));
    float least = std::numeric_limits<float>::infinity();
    for (int k = 0; k <= 2 * kind.reach; ++k) {  // 0, -1, 1, -2, 2
      const int step = k % 2 != 0 ? -(k + 1) / 2 : k / 2;
      const int integer = std::clamp(nearest + step, kind.low, kind.high);
      const float scale = grid.scale * static_cast<float>(integer);
      const float error = ErrorOf(part, level_of, scale, 0.0F);
      if (!(error < least)) continue;
      least = error;
      grid.scale_integers[r] = integer;
      grid.scales[r] = scale;
    }
  }
}

// Q6_K, Q3_K and IQ4_XS: signed integers. The scale of the block is tried where the largest integer
// is `low` and where it is `high`.
template <typename LevelOf>
Grid ChooseSymmetric(Run run, const TwoLevels& kind, const LevelOf& level_of,
                     std::span<const float> ends, Levels levels, int zero, int last_code) noexcept {
  std::array<float, Grid::kMaxRuns> wanted{};
  const std::size_t n_runs = run.x.size() / kind.run_size;
  for (std::size_t r = 0; r < n_runs; ++r) {
    wanted[r] = SearchScale(run.Part(r * kind.run_size, kind.run_size), level_of, ends, kWide,
                            [](float scale) { return scale; })
                    .scale;
  }
  const std::span<const float> scales = std::span(wanted).first(n_runs);
  const float extreme = SignedExtreme(scales);
  Grid best;
  float least = std::numeric_limits<float>::infinity();
  for (const int end : {kind.low, kind.high}) {
    Grid grid;
    grid.run_size = kind.run_size;
    grid.levels = levels;
    grid.zero = zero;
    grid.last_code = last_code;
    grid.scale = StoredHalf(extreme / static_cast<float>(end));
    ChooseIntegers(run, kind, level_of, scales, grid);
    float error = 0;
    for (std::size_t r = 0; r < n_runs; ++r)
      error += ErrorOf(run.Part(r * kind.run_size, kind.run_size), level_of, grid.scales[r], 0.0F);
    if (error < least || least == std::numeric_limits<float>::infinity()) {
      least = error;
      best = grid;
    }
  }
  return best;
}

// Q2_K, Q4_K and Q5_K: scale * code - min, of integers 0 ... high.
Grid ChooseAffine(Run run, std::size_t run_size, int largest, int last_code) noexcept {
  const std::size_t n_runs = run.x.size() / run_size;
  const AffineGrid candidates = {last_code, -0.9F, 0.05F, 36, false};
  std::array<float, Grid::kMaxRuns> scales{}, mins{}, sums{};
  std::array<std::uint8_t, 32> codes;
  for (std::size_t r = 0; r < n_runs; ++r) {
    const Run part = run.Part(r * run_size, run_size);
    const AffineFit fit =
        SearchAffine(part.x, part.h, candidates, std::span(codes).first(run_size));
    scales[r] = fit.scale;
    mins[r] = fit.min;
    for (const float h : part.h) sums[r] += h;
  }
  std::array<std::uint8_t, Grid::kMaxRuns> integers{};
  const auto fit = [&](std::span<const float> values) {
    return StoredHalf(SearchPositive(values.first(n_runs), std::span(sums).first(n_runs), largest,
                                     std::span(integers).first(n_runs)));
  };
  Grid grid;
  grid.run_size = run_size;
  grid.last_code = last_code;
  grid.scale = fit(scales);
  grid.offset = fit(mins);
  const IntegerLevels level_of = {0.0F, static_cast<float>(last_code)};
  const auto nearest = [&](float value, float unit) {
    return NearestInt(std::clamp(value * Inverse(unit), 0.0F, static_cast<float>(largest)));
  };
  for (std::size_t r = 0; r < n_runs; ++r) {
    const Run part = run.Part(r * run_size, run_size);
    const int s0 = nearest(scales[r], grid.scale), m0 = nearest(mins[r], grid.offset);
    float least = std::numeric_limits<float>::infinity();
    for (const int s : {s0, s0 - 1, s0 + 1}) {
      for (const int m : {m0, m0 - 1, m0 + 1}) {
        if (s < 0 || s > largest || m < 0 || m > largest) continue;
        const float scale = grid.scale * static_cast<float>(s);
        const float offset = -(grid.offset * static_cast<float>(m));
        const float error = ErrorOf(part, level_of, scale, offset);
        if (!(error < least)) continue;
        least = error;
        grid.scale_integers[r] = s;
        grid.offset_integers[r] = m;
        grid.scales[r] = scale;
        grid.offsets[r] = offset;
      }
    }
  }
  return grid;
}

Grid ChooseBlock(GgmlType type, Run run) noexcept {
  if (!IsSearchable(run.x)) {
    Grid grid;
    grid.run_size = run.x.size();
    grid.scale = std::numeric_limits<float>::infinity();
    return grid;
  }
  switch (type) {
    case GgmlType::kQ2_K:
      return ChooseAffine(run, 16, 15, 3);
    case GgmlType::kQ4_K:
      return ChooseAffine(run, 32, 63, 15);
    case GgmlType::kQ5_K:
      return ChooseAffine(run, 32, 63, 31);
    case GgmlType::kQ3_K: {
      constexpr float kEnds[] = {-4.0F, 3.0F};
      return ChooseSymmetric(run, {16, -32, 31, 2}, IntegerLevels{-4.0F, 3.0F}, kEnds,
                             Levels::kIntegers, 4, 7);
    }
    case GgmlType::kQ6_K: {
      constexpr float kEnds[] = {-32.0F, 31.0F};
      return ChooseSymmetric(run, {16, -128, 127, 2}, IntegerLevels{-32.0F, 31.0F}, kEnds,
                             Levels::kIntegers, 32, 63);
    }
    case GgmlType::kIQ4_XS: {
      constexpr float kEnds[] = {-127.0F, 113.0F};
      return ChooseSymmetric(run, {32, -32, 31, 2}, Iq4Levels{}, kEnds, Levels::kIq4, 0, 15);
    }
    default:
      return ChooseSimple(type, run);
  }
}

// --- packing --------------------------------------------------------------------------------

Half HalfOf(float x) noexcept { return FloatToFp16(x); }  // exact: halves already

void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ8_0& block) noexcept {
  block.d = HalfOf(grid.scale);
  for (std::size_t e = 0; e < 32; ++e)
    block.q[e] = static_cast<std::int8_t>(static_cast<int>(codes[e]) - grid.zero);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ4_0& block) noexcept {
  block.d = HalfOf(grid.scale);
  PackCodes(codes, block.q);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockIQ4_NL& block) noexcept {
  block.d = HalfOf(grid.scale);
  PackCodes(codes, block.q);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ4_1& block) noexcept {
  block.d = HalfOf(grid.scale);
  block.m = HalfOf(grid.offset);
  PackCodes(codes, block.q);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ5_0& block) noexcept {
  block.d = HalfOf(grid.scale);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ5_1& block) noexcept {
  block.d = HalfOf(grid.scale);
  block.m = HalfOf(grid.offset);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ2_K& block) noexcept {
  block.d = HalfOf(grid.scale);
  block.dmin = HalfOf(grid.offset);
  for (std::size_t j = 0; j < 16; ++j)
    block.scales[j] =
        static_cast<std::uint8_t>(grid.scale_integers[j] | (grid.offset_integers[j] << 4));
  PackPairs(codes, block.q);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ3_K& block) noexcept {
  block.d = HalfOf(grid.scale);
  for (std::size_t j = 0; j < 16; ++j) PackQ3Scale(grid.scale_integers[j], j, block.scales);
  PackPairs(codes, block.q);
  PackBit(codes, 2, block.hmask);
}
template <typename Block>
void PackAffine32(const Grid& grid, Block& block) noexcept {
  block.d = HalfOf(grid.scale);
  block.dmin = HalfOf(grid.offset);
  std::array<std::uint8_t, 8> scales, mins;
  for (std::size_t j = 0; j < 8; ++j) {
    scales[j] = static_cast<std::uint8_t>(grid.scale_integers[j]);
    mins[j] = static_cast<std::uint8_t>(grid.offset_integers[j]);
  }
  PackScalesAndMins(scales, mins, block.scales);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ4_K& block) noexcept {
  PackAffine32(grid, block);
  PackNibbles(codes, block.q);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ5_K& block) noexcept {
  PackAffine32(grid, block);
  PackNibbles(codes, block.q);
  PackBit(codes, 4, block.qh);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockQ6_K& block) noexcept {
  block.d = HalfOf(grid.scale);
  for (std::size_t j = 0; j < 16; ++j)
    block.scales[j] = static_cast<std::int8_t>(grid.scale_integers[j]);
  PackSixBits(codes, block);
}
void Pack(const Grid& grid, std::span<const std::uint8_t> codes, BlockIQ4_XS& block) noexcept {
  block.d = HalfOf(grid.scale);
  for (std::size_t j = 0; j < 8; ++j) {
    PackIq4Scale(grid.scale_integers[j], j, block);
    PackCodes(codes.subspan(32 * j, 32), std::span(block.q).subspan(16 * j, 16));
  }
}

template <typename Block>
void PackBlocks(std::span<const Grid> grids, std::span<const std::uint8_t> codes,
                std::span<std::byte> out) noexcept {
  for (std::size_t b = 0; b < grids.size(); ++b) {
    Block block{};
    Pack(grids[b], codes.subspan(b * Block::kSize, Block::kSize), block);
    std::memcpy(out.data() + b * sizeof(Block), &block, sizeof(Block));
  }
}

void PackGgmlRow(GgmlType type, std::span<const Grid> grids, std::span<const std::uint8_t> codes,
                 std::span<std::byte> out) noexcept {
  switch (type) {
    case GgmlType::kQ4_0:
      return PackBlocks<BlockQ4_0>(grids, codes, out);
    case GgmlType::kQ4_1:
      return PackBlocks<BlockQ4_1>(grids, codes, out);
    case GgmlType::kQ5_0:
      return PackBlocks<BlockQ5_0>(grids, codes, out);
    case GgmlType::kQ5_1:
      return PackBlocks<BlockQ5_1>(grids, codes, out);
    case GgmlType::kQ8_0:
      return PackBlocks<BlockQ8_0>(grids, codes, out);
    case GgmlType::kQ2_K:
      return PackBlocks<BlockQ2_K>(grids, codes, out);
    case GgmlType::kQ3_K:
      return PackBlocks<BlockQ3_K>(grids, codes, out);
    case GgmlType::kQ4_K:
      return PackBlocks<BlockQ4_K>(grids, codes, out);
    case GgmlType::kQ5_K:
      return PackBlocks<BlockQ5_K>(grids, codes, out);
    case GgmlType::kQ6_K:
      return PackBlocks<BlockQ6_K>(grids, codes, out);
    case GgmlType::kIQ4_NL:
      return PackBlocks<BlockIQ4_NL>(grids, codes, out);
    case GgmlType::kIQ4_XS:
      return PackBlocks<BlockIQ4_XS>(grids, codes, out);
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;
  }
}

void PackGroupRow(const GroupEncoding& groups, std::span<const Grid> grids,
                  std::span<const std::uint8_t> codes, std::size_t row,
                  std::span<const std::span<std::byte>> arrays) {
  const int bits = BitsOf(groups.code);
  const std::size_t n = codes.size(), n_groups = grids.size();
  const std::size_t filled = groups.group_size == 0 ? n : n_groups * groups.group_size;
  std::vector<std::uint8_t> unpacked(codes.begin(), codes.end());
  if (IsSigned(groups.code)) FlipTopBits(bits, unpacked);
  unpacked.resize(filled);
  const std::size_t row_bytes = PackedBytes(bits, filled);
  PackBits(bits, unpacked, arrays[0].subspan(row * row_bytes, row_bytes));
  for (std::size_t g = 0; g < n_groups; ++g) {
    StoreScale(groups.scale, grids[g].scale, arrays[1], row * n_groups + g);
    if (groups.offset == Offset::kBias)
      StoreScale(groups.scale, grids[g].offset, arrays[2], row * n_groups + g);
  }
  if (!HasZeroPoints(groups)) return;
  unpacked.clear();
  for (const Grid& grid : grids) unpacked.push_back(static_cast<std::uint8_t>(grid.zero));
  const std::size_t point_bytes = PackedBytes(bits, n_groups);
  unpacked.resize(point_bytes * 8 / static_cast<std::size_t>(bits),
                  static_cast<std::uint8_t>(1 << (bits - 1)));
  if (IsSigned(groups.code)) FlipTopBits(bits, unpacked);
  PackBits(bits, unpacked, arrays[2].subspan(row * point_bytes, point_bytes));
}

}  // namespace

bool HasGrid(const Encoding& encoding) noexcept {
  const GgmlType* type = std::get_if<GgmlType>(&encoding);
  return type == nullptr || GetGgmlTypeInfo(*type).block_size > 1;
}

std::size_t BlockSize(const Encoding& encoding, std::size_t n) noexcept {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return GetGgmlTypeInfo(*type).block_size;
  const std::size_t group_size = std::get_if<GroupEncoding>(&encoding)->group_size;
  return group_size == 0 ? n : group_size;
}

Grid ChooseGrid(const Encoding& encoding, std::span<const float> x,
                std::span<const float> importance) noexcept {
  assert(HasGrid(encoding) && x.size() == importance.size());
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return ChooseBlock(*type, {x, importance});
  return ChooseGroup(*std::get_if<GroupEncoding>(&encoding), {x, importance});
}

Coded Nearest(const Grid& grid, std::size_t column, float w) noexcept {
  const std::size_t r = column / grid.run_size;
  const float scale = grid.scales[r], offset = grid.offsets[r];
  const float v = (w - offset) * Inverse(scale);
  switch (grid.levels) {
    case Levels::kIq4: {
      const std::uint8_t code = NearestIq4Code(v);
      return {code, scale * kIq4Values[code] + offset};
    }
    case Levels::kE2m1: {
      const std::uint8_t code = NearestE2m1Code(v);
      return {code, scale * kE2m1Values[code] + offset};
    }
    case Levels::kE4m3: {
      const std::uint8_t code = FloatToE4m3(v);
      return {code, scale * E4m3ToFloat(code) + offset};
    }
    case Levels::kIntegers:
      break;
  }
  const auto zero = static_cast<float>(grid.zero);
  const float level = IntegerLevels{-zero, static_cast<float>(grid.last_code) - zero}(v);
  return {static_cast<std::uint8_t>(static_cast<int>(level) + grid.zero), scale * level + offset};
}

void PackRow(const Encoding& encoding, std::span<const Grid> grids,
             std::span<const std::uint8_t> codes, std::size_t row,
             std::span<const std::span<std::byte>> arrays) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) {
    const std::size_t row_bytes = GgmlRowBytes(*type, codes.size());
    return PackGgmlRow(*type, grids, codes, arrays[0].subspan(row * row_bytes, row_bytes));
  }
  PackGroupRow(std::get<GroupEncoding>(encoding), grids, codes, row, arrays);
}

}  // namespace phiq
