// Searches for the scale of one run of weights, as llama-quantize does them: the same candidates in
// the same order, sums in element order, strict comparisons.
#pragma once

#include <cstdint>
#include <span>

namespace phiq {

// Weights below this count as zero.
inline constexpr float kNegligible = 1e-15F;

// The weight of largest magnitude with its sign; the first of equals.
float SignedExtreme(std::span<const float> x) noexcept;

// 1 / scale, or 0 for a scale of 0.
inline float InverseOrZero(float scale) noexcept { return scale != 0.0F ? 1.0F / scale : 0.0F; }

// Both searches below: x ~= scale * (codes - levels), codes in 0 ... 2 * levels - 1. Returns the
// scale; 0, and codes 0, for negligible weights.

// Nineteen scales around extreme / -levels, each refined by least squares, error weighted with
// `weights` (nothing: with x^2).
float SearchSymmetric(std::span<const float> x, std::span<const float> weights, int levels,
                      std::span<std::uint8_t> codes) noexcept;

// Starts from extreme / -levels and moves one code at a time while the fit gets better, error
// weighted with x^2.
float DescendSymmetric(std::span<const float> x, int levels,
                       std::span<std::uint8_t> codes) noexcept;

struct AffineGrid {
  int last_code;  // codes 0 ... last_code
  float first;    // candidate i divides the range by last_code + first + step * i
  float step;
  int last_step;
  bool absolute_error;  // else squared
};
inline constexpr AffineGrid kQ2Grid{3, -0.5F, 0.1F, 15, true};
inline constexpr AffineGrid kQ4Grid{15, -1.0F, 0.1F, 20, false};
inline constexpr AffineGrid kQ5Grid{31, -0.5F, 0.1F, 15, false};

// With an importance matrix, whatever the width.
constexpr AffineGrid WeightedGrid(int last_code) noexcept {
  return {last_code, -0.9F, 0.05F, 36, false};
}

struct AffineFit {
  float scale;
  float min;  // x ~= scale * codes - min, min >= 0
};

// Candidates of `grid`, each refined by least squares, error weighted with `weights`.
AffineFit SearchAffine(std::span<const float> x, std::span<const float> weights,
                       const AffineGrid& grid, std::span<std::uint8_t> codes) noexcept;

// x ~= scale * codes for x that are not negative, codes in 0 ... last_code: nine scales around
// max(x) / last_code, then one code at a time while the fit gets better. Returns the scale; 0, and
// codes 0, for negligible x.
float SearchPositive(std::span<const float> x, std::span<const float> weights, int last_code,
                     std::span<std::uint8_t> codes) noexcept;

}  // namespace phiq
