// From moments to the factor of their inverse, in the memory that the moments stand in. What is
// below the diagonal keeps them until a factor is found.
#include "calibrate/factor.h"

#include <cassert>
#include <cmath>
#include <cstddef>
#include <vector>

namespace phiq::calibrate {

bool FactorMoments(const engine::Runner& runner, float shrink, engine::Matrix& h) {
  constexpr double kDamping = 0.002;
  constexpr int kDoublings = 10;
  const std::size_t n = h.n_columns;
  assert(h.n_rows == n);
  std::vector<float> diagonal(n);
  double sum = 0;
  std::size_t n_used = 0;
  for (std::size_t c = 0; c < n; ++c) {
    diagonal[c] = h.Row(c)[c];
    sum += diagonal[c];
    n_used += diagonal[c] > 0 ? 1 : 0;
  }
  const double mean = n_used > 0 ? sum / static_cast<double>(n_used) : 1 / kDamping;
  engine::MirrorToLower(h);
  double term = kDamping * mean;
  for (int doubling = 0; doubling <= kDoublings; ++doubling, term *= 2) {
    runner.ForEach(n, [&](std::size_t r, unsigned) {
      const std::span<float> row = h.Row(r);
      row[r] = static_cast<float>(diagonal[r] + term);
      for (std::size_t c = r + 1; c < n; ++c) row[c] = (1.0F - shrink) * h.values[c * n + r];
    });
    if (!engine::FactorReversed(runner, h)) continue;
    engine::InvertUpper(runner, h);
    bool is_usable = true;
    for (std::size_t c = 0; c < n; ++c)
      is_usable = is_usable && h.Row(c)[c] > 0 && std::isfinite(h.Row(c)[c]);
    if (is_usable) return true;
  }
  return false;
}

}  // namespace phiq::calibrate
