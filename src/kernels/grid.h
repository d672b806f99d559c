// A block of weights opened up: what each code will decode to, before one is chosen. A search for
// scales, and whatever carries rounding errors from column to column, are loops over these three
// functions and know no encoding.
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

// Code c of a column in run r decodes to scales[r] * level(c) + offsets[r].
struct Grid {
  static constexpr std::size_t kMaxRuns = 16;

  std::size_t run_size = 1;  // columns that share a line; the last run may be shorter
  Levels levels = Levels::kIntegers;
  int zero = 0;       // of kIntegers
  int last_code = 0;  // codes are 0 ... last_code
  std::array<float, kMaxRuns> scales{};
  std::array<float, kMaxRuns> offsets{};

  // What is stored beside the codes. GGUF's blocks: d and dmin (or m), halves, and the integers
  // that they multiply in each run. Groups: a scale, and a zero point (`zero`) or a bias.
  float scale = 0;
  float offset = 0;
  std::array<int, kMaxRuns> scale_integers{};
  std::array<int, kMaxRuns> offset_integers{};
};

// True for encodings whose scales can be chosen: all but floats.
bool HasGrid(const Encoding& encoding) noexcept;

// Columns of a block of a row of n.
std::size_t BlockSize(const Encoding& encoding, std::size_t n) noexcept;

// The grid on which the nearest codes have the least error found, sum of importance * (x - value)^2
// with the values that the stored scales give.
//
// Shapes    x, importance: [size of the block]; a row's last group may be shorter.
// Requires  HasGrid(encoding); x finite; importance positive, at most 1e30.
// Error     not above that of the nearest codes under a scale from the largest weight (of
// kZeroPoint
//           and kBias: from the range).
// Source    docs/quantization.md "Searched scales".
Grid ChooseGrid(const Encoding& encoding, std::span<const float> x,
                std::span<const float> importance) noexcept;

struct Coded {
  std::uint8_t code;
  float value;  // what it decodes to
};
// The code whose value is nearest to w.
Coded Nearest(const Grid& grid, std::size_t column, float w) noexcept;

// Rows of blocks to the arrays of an encoding.
//
// Shapes    grids: one for each block of the row; codes: [n]; arrays: as a Method's, of which row
//           `row` is written.
void PackRow(const Encoding& encoding, std::span<const Grid> grids,
             std::span<const std::uint8_t> codes, std::size_t row,
             std::span<const std::span<std::byte>> arrays);

}  // namespace phiq
