// What each encoding's grid looks like, and the super-blocks of GGUF's types; how lines are
// searched is kernels/simd/line_search.cpp's.
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
#include "kernels/rounding.h"
#include "kernels/scale_type.h"
#include "kernels/simd/line_search.h"
#include "kernels/small_floats.h"

namespace phiq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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

float Inverse(float scale) noexcept {
  const float inverse = 1.0F / scale;
  return std::abs(inverse) <= std::numeric_limits<float>::max() ? inverse : 0.0F;
}

// How the runs of an encoding are searched; a run is the block where there is no second level.
struct GridKind {
  std::size_t run_size = 0;  // 0: the block
  LineSearch search;
  RunIntegers integers = {};
};

// The squares of such a weight's errors are floats.
constexpr float kLeastToSquare = 0x1p-40F;
// A scale of such weights has an inverse that is a float.
constexpr float kLeastToScale = 0x1p-110F;
// Times this a weight between those two is one of the first; a power of two rounds nothing.
constexpr float kMagnified = 0x1p100F;

LineSearch ScaleOf(int zero, int last_code, std::optional<ScaleType> storage) {
  return {LineKind::kScale, Levels::kIntegers, zero, last_code, storage};
}
LineSearch Iq4ScaleOf(std::optional<ScaleType> storage) {
  return {LineKind::kScale, Levels::kIq4, 0, 15, storage};
}
LineSearch OffsetOf(LineKind kind, int last_code, std::optional<ScaleType> storage) {
  return {kind, Levels::kIntegers, 0, last_code, storage};
}

GridKind KindOf(GgmlType type) {
  constexpr ScaleType kHalf = ScaleType::kF16;
  constexpr std::nullopt_t kNone = std::nullopt;  // integers of the block's scale
  switch (type) {
    case GgmlType::kQ4_0:
      return {0, ScaleOf(8, 15, kHalf)};
    case GgmlType::kQ5_0:
      return {0, ScaleOf(16, 31, kHalf)};
    case GgmlType::kQ8_0:  // llama.cpp's kernels negate codes: -128 is not used
      return {0, ScaleOf(127, 254, kHalf)};
    case GgmlType::kQ4_1:
      return {0, OffsetOf(LineKind::kBias, 15, kHalf)};
    case GgmlType::kQ5_1:
      return {0, OffsetOf(LineKind::kBias, 31, kHalf)};
    case GgmlType::kIQ4_NL:
      return {0, Iq4ScaleOf(kHalf)};
    case GgmlType::kQ2_K:
      return {16, OffsetOf(LineKind::kMin, 3, kNone), {0, 15, 15}};
    case GgmlType::kQ4_K:
      return {32, OffsetOf(LineKind::kMin, 15, kNone), {0, 63, 63}};
    case GgmlType::kQ5_K:
      return {32, OffsetOf(LineKind::kMin, 31, kNone), {0, 63, 63}};
    case GgmlType::kQ3_K:
      return {16, ScaleOf(4, 7, kNone), {-32, 31, 0}};
    case GgmlType::kQ6_K:
      return {16, ScaleOf(32, 63, kNone), {-128, 127, 0}};
    case GgmlType::kIQ4_XS:
      return {32, Iq4ScaleOf(kNone), {-32, 31, 0}};
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;
  }
  return {};
}

GridKind KindOf(const Encoding& encoding) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) return KindOf(*type);
  const GroupEncoding& groups = *std::get_if<GroupEncoding>(&encoding);
  const int last_code = (1 << BitsOf(groups.code)) - 1;
  const auto small_floats = [&](Levels levels) {
    return GridKind{0, {LineKind::kUnsignedScale, levels, 0, last_code, groups.scale}};
  };
  if (groups.code == Code::kE2M1) return small_floats(Levels::kE2m1);
  if (groups.code == Code::kE4M3) return small_floats(Levels::kE4m3);
  if (groups.offset == Offset::kBias)
    return {0, OffsetOf(LineKind::kBias, last_code, groups.scale)};
  GridKind kind = {0, ScaleOf((last_code + 1) / 2, last_code, groups.scale)};
  if (groups.offset == Offset::kZeroPoint) {
    kind.search = OffsetOf(LineKind::kZeroPoint, last_code, groups.scale);
  } else if (groups.positive_scales && last_code == 255) {
    kind.search = ScaleOf(127, 254, groups.scale);
  }
  kind.search.is_positive = groups.positive_scales;
  return kind;
}

// kSearchRuns blocks or fewer, side by side; the first one again where there are fewer.
class SideBySide {
 public:
  // `magnifies`: blocks of the least weights. (The halves of super-blocks do not hold those.)
  SideBySide(std::size_t size, std::span<const WeighedBlock> blocks, bool magnifies)
      : size_(size), x_(size * kSearchRuns), importance_(size * kSearchRuns) {
    for (std::size_t b = 0; b < kSearchRuns; ++b) {
      const WeighedBlock& block = blocks[b < blocks.size() ? b : 0];
      float largest = 0;
      for (std::size_t c = 0; c < size; ++c) {
        largest = std::max(largest, std::abs(block.x[c]));
        x_[c * kSearchRuns + b] = block.x[c];
        importance_[c * kSearchRuns + b] = block.importance[c];
      }
      const bool is_least = largest >= kLeastToScale && largest < kLeastToSquare;
      magnified_[b] = magnifies && is_least ? kMagnified : 1.0F;
      if (magnified_[b] == 1.0F) continue;
      for (std::size_t c = 0; c < size; ++c) x_[c * kSearchRuns + b] *= kMagnified;
    }
  }

  Runs All() const { return {size_, x_.data(), importance_.data(), magnified_.data()}; }

 private:
  std::size_t size_;
  std::vector<float> x_, importance_;
  std::array<float, kSearchRuns> magnified_;
};

using PerBlock = std::array<float, kSearchRuns>;

// The weights of super-blocks, and what the search finds for each run by itself.
struct SuperBlocks {
  SuperBlocks(const GridKind& of_kind, std::size_t size, std::span<const WeighedBlock> blocks)
      : kind(of_kind), n_runs(size / kind.run_size), weights(size, blocks, /*magnifies=*/false) {
    for (std::size_t r = 0; r < n_runs; ++r) SearchLines(kind.search, Run(r), own[r]);
  }

  Runs Run(std::size_t r) const { return weights.All().Part(r * kind.run_size, kind.run_size); }
  float ImportanceOfRun(std::size_t r, std::size_t block) const {
    const Runs run = Run(r);
    float sum = 0;
    for (std::size_t c = 0; c < run.n; ++c) sum += run.h[c * kSearchRuns + block];
    return sum;
  }

  const GridKind& kind;
  std::size_t n_runs;
  SideBySide weights;
  std::array<Lines, Grid::kMaxRuns> own;
};

// value / unit, within low ... high.
int NearestInteger(float value, float unit, int low, int high) noexcept {
  return NearestInt(
      std::clamp(value * Inverse(unit), static_cast<float>(low), static_cast<float>(high)));
}

RunLine NearestLine(const Lines& own, std::size_t block, const BlockScales& scales,
                    const RunIntegers& range) noexcept {
  return {NearestInteger(own.scale[block], scales.scale, range.low, range.high),
          NearestInteger(-own.offset[block], scales.offset, 0, range.highest_min)};
}

// The integers around the nearest ones, down to the error of the codes. Returns the errors of the
// blocks.
PerBlock ChooseIntegers(const SuperBlocks& blocks, std::span<Grid> grids) {
  PerBlock errors{};
  for (std::size_t r = 0; r < blocks.n_runs; ++r) {
    PerBlock least;
    least.fill(kInfinity);
    for (const RunLine step : StepsAround(blocks.kind.integers)) {
      Lines lines{};
      std::array<RunLine, kSearchRuns> moved;
      for (std::size_t b = 0; b < grids.size(); ++b) {
        moved[b] = Moved(NearestLine(blocks.own[r], b, grids[b], blocks.kind.integers), step,
                         blocks.kind.integers);
        lines.scale[b] = grids[b].scale * static_cast<float>(moved[b].scale);
        lines.offset[b] = -(grids[b].offset * static_cast<float>(moved[b].min));
      }
      alignas(64) PerBlock error;
      ErrorsOf(blocks.kind.search, blocks.Run(r), lines, error.data());
      for (std::size_t b = 0; b < grids.size(); ++b) {
        if (!(error[b] < least[b])) continue;
        least[b] = error[b];
        SetRun(grids[b], r, moved[b]);
      }
    }
    for (std::size_t b = 0; b < grids.size(); ++b) errors[b] += least[b];
  }
  return errors;
}

// Q6_K, Q3_K and IQ4_XS: the scale of the block is tried where the largest integer is `low` and
// where it is `high`.
void ChooseSymmetric(const SuperBlocks& blocks, std::span<Grid> grids) {
  std::array<Grid, kSearchRuns> tried;
  PerBlock least;
  for (const int end : {blocks.kind.integers.low, blocks.kind.integers.high}) {
    for (std::size_t b = 0; b < grids.size(); ++b) {
      std::array<float, Grid::kMaxRuns> own;
      for (std::size_t r = 0; r < blocks.n_runs; ++r) own[r] = blocks.own[r].scale[b];
      tried[b] = grids[b];
      tried[b].scale =
          RoundToHalf(SignedExtreme(std::span(own).first(blocks.n_runs)) / static_cast<float>(end));
    }
    const PerBlock errors = ChooseIntegers(blocks, std::span(tried).first(grids.size()));
    const bool is_first = end == blocks.kind.integers.low;
    for (std::size_t b = 0; b < grids.size(); ++b) {
      if (!is_first && !(errors[b] < least[b])) continue;
      least[b] = errors[b];
      std::swap(grids[b], tried[b]);
    }
  }
}

// Q2_K, Q4_K and Q5_K.
void ChooseAffine(const SuperBlocks& blocks, std::span<Grid> grids) {
  const int largest = blocks.kind.integers.high;
  for (std::size_t b = 0; b < grids.size(); ++b) {
    std::array<float, Grid::kMaxRuns> scales, mins, importance;
    std::array<std::uint8_t, Grid::kMaxRuns> integers;
    for (std::size_t r = 0; r < blocks.n_runs; ++r) {
      scales[r] = blocks.own[r].scale[b];
      mins[r] = -blocks.own[r].offset[b];
      importance[r] = blocks.ImportanceOfRun(r, b);
    }
    const auto fit = [&](std::span<const float> values) {
      return RoundToHalf(SearchPositive(values.first(blocks.n_runs),
                                        std::span(importance).first(blocks.n_runs), largest,
                                        std::span(integers).first(blocks.n_runs)));
    };
    grids[b].scale = fit(scales);
    grids[b].offset = fit(mins);
  }
  ChooseIntegers(blocks, grids);
}

void ChooseFew(const GridKind& kind, std::size_t size, std::span<const WeighedBlock> blocks,
               std::span<Grid> grids) {
  for (Grid& grid : grids) {
    grid = Grid();
    grid.run_size = kind.run_size == 0 ? size : kind.run_size;
    grid.levels = kind.search.levels;
    grid.zero = kind.search.zero;
    grid.last_code = kind.search.last_code;
  }
  if (kind.integers.high > 0) {
    const SuperBlocks super_blocks(kind, size, blocks);
    if (kind.integers.highest_min > 0) return ChooseAffine(super_blocks, grids);
    return ChooseSymmetric(super_blocks, grids);
  }
  const SideBySide weights(size, blocks, /*magnifies=*/true);
  Lines lines;
  SearchLines(kind.search, weights.All(), lines);
  for (std::size_t b = 0; b < grids.size(); ++b) {
    grids[b].scale = grids[b].scales[0] = lines.scale[b];
    grids[b].offset = grids[b].offsets[0] = lines.offset[b];
    if (kind.search.kind == LineKind::kZeroPoint) grids[b].zero = static_cast<int>(lines.zero[b]);
  }
}

// --- packing --------------------------------------------------------------------------------

Half HalfOf(float x) noexcept { return FloatToFp16(x); }  // exact: halves already

void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ8_0& block) noexcept {
  block.d = HalfOf(scales.scale);
  for (std::size_t e = 0; e < 32; ++e)
    block.q[e] = static_cast<std::int8_t>(static_cast<int>(codes[e]) - scales.zero);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ4_0& block) noexcept {
  block.d = HalfOf(scales.scale);
  PackCodes(codes, block.q);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockIQ4_NL& block) noexcept {
  block.d = HalfOf(scales.scale);
  PackCodes(codes, block.q);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ4_1& block) noexcept {
  block.d = HalfOf(scales.scale);
  block.m = HalfOf(scales.offset);
  PackCodes(codes, block.q);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ5_0& block) noexcept {
  block.d = HalfOf(scales.scale);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ5_1& block) noexcept {
  block.d = HalfOf(scales.scale);
  block.m = HalfOf(scales.offset);
  PackCodes(codes, block.q);
  PackHighBits(codes, block.qh);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ2_K& block) noexcept {
  block.d = HalfOf(scales.scale);
  block.dmin = HalfOf(scales.offset);
  for (std::size_t j = 0; j < 16; ++j)
    block.scales[j] =
        static_cast<std::uint8_t>(scales.scale_integers[j] | (scales.offset_integers[j] << 4));
  PackPairs(codes, block.q);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ3_K& block) noexcept {
  block.d = HalfOf(scales.scale);
  for (std::size_t j = 0; j < 16; ++j) PackQ3Scale(scales.scale_integers[j], j, block.scales);
  PackPairs(codes, block.q);
  PackBit(codes, 2, block.hmask);
}
template <typename Block>
void PackAffine32(const BlockScales& scales, Block& block) noexcept {
  block.d = HalfOf(scales.scale);
  block.dmin = HalfOf(scales.offset);
  std::array<std::uint8_t, 8> integers, mins;
  for (std::size_t j = 0; j < 8; ++j) {
    integers[j] = static_cast<std::uint8_t>(scales.scale_integers[j]);
    mins[j] = scales.offset_integers[j];
  }
  PackScalesAndMins(integers, mins, block.scales);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ4_K& block) noexcept {
  PackAffine32(scales, block);
  PackNibbles(codes, block.q);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ5_K& block) noexcept {
  PackAffine32(scales, block);
  PackNibbles(codes, block.q);
  PackBit(codes, 4, block.qh);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockQ6_K& block) noexcept {
  block.d = HalfOf(scales.scale);
  std::ranges::copy(scales.scale_integers, block.scales);
  PackSixBits(codes, block);
}
void Pack(const BlockScales& scales, std::span<const std::uint8_t> codes,
          BlockIQ4_XS& block) noexcept {
  block.d = HalfOf(scales.scale);
  for (std::size_t j = 0; j < 8; ++j) {
    PackIq4Scale(scales.scale_integers[j], j, block);
    PackCodes(codes.subspan(32 * j, 32), std::span(block.q).subspan(16 * j, 16));
  }
}

template <typename Block>
void PackBlocks(std::span<const BlockScales> blocks, std::span<const std::uint8_t> codes,
                std::span<std::byte> out) noexcept {
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    Block block{};
    Pack(blocks[b], codes.subspan(b * Block::kSize, Block::kSize), block);
    std::memcpy(out.data() + b * sizeof(Block), &block, sizeof(Block));
  }
}

void PackGgmlRow(GgmlType type, std::span<const BlockScales> blocks,
                 std::span<const std::uint8_t> codes, std::span<std::byte> out) noexcept {
  switch (type) {
    case GgmlType::kQ4_0:
      return PackBlocks<BlockQ4_0>(blocks, codes, out);
    case GgmlType::kQ4_1:
      return PackBlocks<BlockQ4_1>(blocks, codes, out);
    case GgmlType::kQ5_0:
      return PackBlocks<BlockQ5_0>(blocks, codes, out);
    case GgmlType::kQ5_1:
      return PackBlocks<BlockQ5_1>(blocks, codes, out);
    case GgmlType::kQ8_0:
      return PackBlocks<BlockQ8_0>(blocks, codes, out);
    case GgmlType::kQ2_K:
      return PackBlocks<BlockQ2_K>(blocks, codes, out);
    case GgmlType::kQ3_K:
      return PackBlocks<BlockQ3_K>(blocks, codes, out);
    case GgmlType::kQ4_K:
      return PackBlocks<BlockQ4_K>(blocks, codes, out);
    case GgmlType::kQ5_K:
      return PackBlocks<BlockQ5_K>(blocks, codes, out);
    case GgmlType::kQ6_K:
      return PackBlocks<BlockQ6_K>(blocks, codes, out);
    case GgmlType::kIQ4_NL:
      return PackBlocks<BlockIQ4_NL>(blocks, codes, out);
    case GgmlType::kIQ4_XS:
      return PackBlocks<BlockIQ4_XS>(blocks, codes, out);
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;
  }
}

void PackGroupRow(const GroupEncoding& groups, std::span<const BlockScales> blocks,
                  std::span<const std::uint8_t> codes, std::size_t row,
                  std::span<const std::span<std::byte>> arrays) {
  const int bits = BitsOf(groups.code);
  const std::size_t n = codes.size(), n_groups = blocks.size();
  const std::size_t filled = groups.group_size == 0 ? n : n_groups * groups.group_size;
  std::vector<std::uint8_t> unpacked(codes.begin(), codes.end());
  // With positive scales 8-bit codes around the middle one begin behind the first.
  if (groups.positive_scales && bits == 8 && !HasZeroPoints(groups))
    for (std::uint8_t& code : unpacked) ++code;
  if (IsSigned(groups.code)) FlipTopBits(bits, unpacked);
  unpacked.resize(filled);
  const std::size_t row_bytes = PackedBytes(bits, filled);
  PackBits(bits, unpacked, arrays[0].subspan(row * row_bytes, row_bytes));
  for (std::size_t g = 0; g < n_groups; ++g) {
    StoreScale(groups.scale, blocks[g].scale, arrays[1], row * n_groups + g);
    if (groups.offset == Offset::kBias)
      StoreScale(groups.scale, blocks[g].offset, arrays[2], row * n_groups + g);
  }
  if (!HasZeroPoints(groups)) return;
  unpacked.clear();
  for (const BlockScales& scales : blocks)
    unpacked.push_back(static_cast<std::uint8_t>(scales.zero));
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

void ChooseGrids(const Encoding& encoding, std::size_t size, std::span<const WeighedBlock> blocks,
                 std::span<Grid> grids) {
  assert(HasGrid(encoding) && blocks.size() == grids.size());
  const GridKind kind = KindOf(encoding);
  for (std::size_t b = 0; b < blocks.size(); b += kSearchRuns) {
    const std::size_t n = std::min(kSearchRuns, blocks.size() - b);
    ChooseFew(kind, size, blocks.subspan(b, n), grids.subspan(b, n));
  }
  if (!std::holds_alternative<GgmlType>(encoding)) return;
  for (std::size_t b = 0; b < blocks.size(); ++b)
    if (!IsSearchable({blocks[b].x, size})) grids[b].scale = kInfinity;
}

RunIntegers RunIntegersOf(const Encoding& encoding) noexcept { return KindOf(encoding).integers; }

std::span<const RunLine> StepsAround(const RunIntegers& integers) noexcept {
  static constexpr RunLine kScales[] = {{0, 0}, {-1, 0}, {1, 0}, {-2, 0}, {2, 0}};
  static constexpr RunLine kLines[] = {{0, 0},  {0, -1}, {0, 1},  {-1, 0}, {-1, -1},
                                       {-1, 1}, {1, 0},  {1, -1}, {1, 1}};
  return integers.highest_min > 0 ? std::span<const RunLine>(kLines) : kScales;
}

RunLine Moved(RunLine line, RunLine step, const RunIntegers& range) noexcept {
  return {std::clamp(line.scale + step.scale, range.low, range.high),
          std::clamp(line.min + step.min, 0, range.highest_min)};
}

void ChooseRuns(const Encoding& encoding, std::span<const Grid> grids,
                std::span<const WeighedBlock> runs, std::span<RunLine> lines) {
  const GridKind kind = KindOf(encoding);
  for (std::size_t i = 0; i < runs.size(); i += kSearchRuns) {
    const std::size_t n = std::min(kSearchRuns, runs.size() - i);
    const SideBySide weights(kind.run_size, runs.subspan(i, n), /*magnifies=*/false);
    Lines own;
    SearchLines(kind.search, weights.All(), own);
    for (std::size_t r = 0; r < n; ++r)
      lines[i + r] = NearestLine(own, r, grids[i + r], kind.integers);
  }
}

void SetRun(Grid& grid, std::size_t run, RunLine line) noexcept {
  grid.scale_integers[run] = static_cast<std::int8_t>(line.scale);
  grid.offset_integers[run] = static_cast<std::uint8_t>(line.min);
  grid.scales[run] = grid.scale * static_cast<float>(line.scale);
  grid.offsets[run] = -(grid.offset * static_cast<float>(line.min));
}

Coded Nearest(const Grid& grid, std::size_t column, float w) noexcept {
  const std::size_t r = column / grid.run_size;
  const float scale = grid.scales[r], offset = grid.offsets[r];
  const float v = (w - offset) * Inverse(scale);
  switch (grid.levels) {
    case Levels::kIq4: {
      const std::uint8_t code = NearestIq4Code(v);
      return {code, scale * static_cast<float>(kIq4Values[code]) + offset};
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

void PackRow(const Encoding& encoding, std::span<const BlockScales> blocks,
             std::span<const std::uint8_t> codes, std::size_t row,
             std::span<const std::span<std::byte>> arrays) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding)) {
    const std::size_t row_bytes = GgmlRowBytes(*type, codes.size());
    return PackGgmlRow(*type, blocks, codes, arrays[0].subspan(row * row_bytes, row_bytes));
  }
  PackGroupRow(std::get<GroupEncoding>(encoding), blocks, codes, row, arrays);
}

}  // namespace phiq
