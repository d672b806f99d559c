// How far rows of weights are apart, for the processor at run time: the same digits on all.
//
// Threads   pure.
#pragma once

#include <cstddef>
#include <span>

namespace phiq::simd {

// Sums over a row in double, each as eight running sums of every eighth weight.
struct RowSums {
  double squared_error = 0, squared_a = 0, squared_b = 0, product = 0;
  double max_error = 0;  // NaN does not count

  void Add(const RowSums& other) noexcept;
};
// Shapes    a, b: [n].
RowSums CompareRows(std::span<const float> a, std::span<const float> b);

// The largest error of a weight, less the slack, as a share of the largest weight (of a) of its
// block; Inf where that is 0; 0 where no error is above the slack. The last block may be short.
// Shapes    a, b: [n].
double WorstBlock(std::span<const float> a, std::span<const float> b, std::size_t block_size,
                  double slack);

}  // namespace phiq::simd
