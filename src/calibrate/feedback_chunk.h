// The innermost part of error feedback: a few columns of many rows, rounded one after the other.
#pragma once

#include <cstddef>

#include "kernels/grid.h"

namespace phiq::calibrate {

inline constexpr std::size_t kChunkColumns = 32;  // at most
inline constexpr std::size_t kChunkRows = 128;
inline constexpr std::size_t kMostCandidates = 9;

// A chunk stands on its side: column j of row r at [j][r].
struct Chunk {
  using Rows = float[kChunkRows];

  std::size_t n_columns = 0;
  std::size_t n_rows = 0;  // the rest is filled up to a multiple of 16, with anything finite
  // Of the factor: its rows right of the diagonal, and what is on the diagonal.
  float u[kChunkColumns][kChunkColumns];
  float diagonal[kChunkColumns];

  // The lines that each row may take: codes decode to scale * level + offset.
  std::size_t n_candidates = 1;
  Levels levels = Levels::kIntegers;
  alignas(64) Rows scales[kMostCandidates], offsets[kMostCandidates];
  alignas(64) Rows zeros;  // of kIntegers
  float last_code = 0;

  alignas(64) Rows weights[kChunkColumns];

  // Found.
  alignas(64) Rows codes[kChunkColumns];
  alignas(64) Rows errors[kChunkColumns];
  alignas(64) Rows chosen;  // number of the candidate with the least loss: the first of the best
  alignas(64) Rows loss;    // of its errors, the sum of squares
};

// For each row and candidate, with w the row's weights:
//   for each column j:  v = the value nearest to w[j];  e[j] = (w[j] - v) / diagonal[j]
//                       w[k] -= e[j] * u[j][k] for k > j
// Weights stay as they are.
// Threads   pure; the same bits on every instruction set.
void FeedThrough(Chunk& chunk);

}  // namespace phiq::calibrate
