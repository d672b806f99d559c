// A block of weights opened up: what each code will decode to, before one is chosen. A search for
// scales, and what carries rounding errors from column to column, are loops over these functions
// and know no encoding.
//
// A block is what shares a scale: a group, the whole row where that has one scale, or a block of
// GGUF's types.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "phiq/encoding.h"

namespace phiq {

// What a code stands for before it is scaled.
enum class Levels : std::uint8_t {
  kIntegers,  // code - zero
  kIq4,       // GGUF's table of uneven steps
  kE2m1,
  kE4m3,
};

// What is stored of a block beside its codes. GGUF's blocks: d and dmin (or m), halves, and the
// integers that they multiply in each run. Groups: a scale, and a zero point or a bias.
struct BlockScales {
  static constexpr std::size_t kMaxRuns = 16;

  float scale = 0;
  float offset = 0;
  int zero = 0;  // of Levels::kIntegers
  std::array<std::int8_t, kMaxRuns> scale_integers{};
  std::array<std::uint8_t, kMaxRuns> offset_integers{};
};

// Code c of a column in run r decodes to scales[r] * level(c) + offsets[r].
struct Grid : BlockScales {
  std::size_t run_size = 1;  // columns that share a line; the last run may be shorter
  Levels levels = Levels::kIntegers;
  int last_code = 0;  // codes are 0 ... last_code
  std::array<float, kMaxRuns> scales{};
  std::array<float, kMaxRuns> offsets{};
};

// True for encodings whose scales can be chosen: all but floats.
bool HasGrid(const Encoding& encoding) noexcept;

// Columns of a block of a row of n.
std::size_t BlockSize(const Encoding& encoding, std::size_t n) noexcept;

// Blocks that are searched as fast as one.
inline constexpr std::size_t kBlocksAtOnce = 16;

// A block's weights, and what their errors count.
struct WeighedBlock {
  const float* x;
  const float* importance;
};

// The grids on which the nearest codes have the least error found, sum of importance * (x -
// value)^2 with the values that the stored scales give.
//
// Shapes    blocks: of `size` weights each; a row's last group may be shorter than the others.
//           grids: as many.
// Requires  HasGrid(encoding); importance positive, at most 1e30. x may be any floats: of what is
//           not finite, scales are nonsense.
// Error     not above that of the nearest codes under a scale from the largest weight (of
//           kZeroPoint and kBias: from the range).
// Source    docs/quantization.md "Searched scales".
void ChooseGrids(const Encoding& encoding, std::size_t size, std::span<const WeighedBlock> blocks,
                 std::span<Grid> grids);

// Two levels: a block's scale (and min) are multiplied with an integer for each run.
struct RunIntegers {
  int low = 0, high = 0;  // of the scale
  int highest_min = 0;    // the min's are 0 ... highest_min
};
// All 0 where an encoding has no second level.
RunIntegers RunIntegersOf(const Encoding& encoding) noexcept;

struct RunLine {
  int scale = 0;
  int min = 0;
};
// What is tried around the nearest integers, first {0, 0}: of scale and min one to either side, of
// scales alone two.
std::span<const RunLine> StepsAround(const RunIntegers& integers) noexcept;
RunLine Moved(RunLine line, RunLine step, const RunIntegers& range) noexcept;

// For runs of blocks by themselves: the integers nearest to a run's own best scale and min, with
// the scale and the min of its block as they are.
// Shapes    runs, lines: [grids.size()]; runs of grids[i].run_size weights
// Requires  as ChooseGrids; an encoding with a second level.
void ChooseRuns(const Encoding& encoding, std::span<const Grid> grids,
                std::span<const WeighedBlock> runs, std::span<RunLine> lines);
void SetRun(Grid& grid, std::size_t run, RunLine line) noexcept;

struct Coded {
  std::uint8_t code;
  float value;  // what it decodes to
};
// The code whose value is nearest to w.
Coded Nearest(const Grid& grid, std::size_t column, float w) noexcept;

// Rows of blocks to the arrays of an encoding.
//
// Shapes    blocks: one for each block of the row; codes: [n]; arrays: as a Method's, of which row
//           `row` is written.
void PackRow(const Encoding& encoding, std::span<const BlockScales> blocks,
             std::span<const std::uint8_t> codes, std::size_t row,
             std::span<const std::span<std::byte>> arrays);

}  // namespace phiq
