// Searches for the line of a run of weights, 16 runs at once: what their levels are multiplied
// with, and what is added. For kernels/grid.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/grid.h"
#include "phiq/encoding.h"

namespace phiq {

inline constexpr std::size_t kSearchRuns = kBlocksAtOnce;

// Column c of run r at [c * kSearchRuns + r].
struct Runs {
  std::size_t n = 0;
  const float* x = nullptr;
  const float* h = nullptr;  // what errors count
  // [kSearchRuns]: what the weights of each run are times here, a power of two. Squares of errors of
  // the least weights are below every float, so those come magnified.
  const float* magnified = nullptr;

  Runs Part(std::size_t begin, std::size_t size) const noexcept {
    return {size, x + begin * kSearchRuns, h + begin * kSearchRuns, magnified};
  }
};

// Values are scale * level + offset.
struct Lines {
  alignas(64) float scale[kSearchRuns];
  alignas(64) float offset[kSearchRuns];
  alignas(64) float zero[kSearchRuns];  // of LineKind::kZeroPoint
};

enum class LineKind : std::uint8_t {
  kScale,          // of either sign
  kUnsignedScale,  // of small floats, which have signs themselves
  kZeroPoint,
  kBias,
  kMin,  // an offset that is not above 0
};

struct LineSearch {
  LineKind kind = LineKind::kScale;
  Levels levels = Levels::kIntegers;
  int zero = 0;  // of kIntegers with a scale alone: levels are -zero ... last_code - zero
  int last_code = 0;
  std::optional<ScaleType> storage;  // what scales and offsets are rounded to
  bool is_positive = false;          // scales are above 0, and normal numbers
};

// The best lines found: sum of h * (x - value)^2 of the nearest levels, with the line as it is
// stored (not stored: of the levels that a candidate began with).
//
// Requires  h positive, at most 1e30. x may be any floats.
// Returns   lines of the weights as they are without being magnified.
// Edges     0 where all of a run's weights are below 1e-15 as they stand in `x` (E8M0 and
//           is_positive: 1). Inf or NaN where the storage type cannot hold the run.
// Threads   pure; the same bits on every instruction set: lanes are runs, sums go from column to
//           column.
// Source    docs/quantization.md "Searched scales".
void SearchLines(const LineSearch& search, const Runs& runs, Lines& lines);

// errors: [kSearchRuns]; of the nearest levels under these lines.
void ErrorsOf(const LineSearch& search, const Runs& runs, const Lines& lines, float* errors);

}  // namespace phiq
