// Two arrays of an input's moments and no third: A's factor stands in H's upper half while the
// lower half keeps H.
#include "calibrate/correction.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <vector>

#include "engine/product.h"

namespace phiq::calibrate {

bool MakeCorrection(const engine::Runner& runner, engine::Matrix& h, engine::Matrix& d) {
  constexpr double kDamping = 0.1;
  const std::size_t n = h.n_columns;
  assert(h.n_rows == n && d.n_rows == n && d.n_columns == n);
  std::vector<float> diagonal(n);
  double sum = 0;
  for (std::size_t c = 0; c < n; ++c) sum += diagonal[c] = h.Row(c)[c];
  const double term = kDamping * sum / static_cast<double>(n);
  engine::MirrorToLower(h);
  for (std::size_t c = 0; c < n; ++c) h.Row(c)[c] = static_cast<float>(diagonal[c] + term);
  const bool has_factor = engine::FactorReversed(runner, h);
  if (has_factor) {
    engine::InvertUpper(runner, h);
    engine::MultiplyByInverse(runner, h, d);
  }
  runner.ForEach(n, [&](std::size_t r, unsigned) {
    const std::span<float> row = h.Row(r);
    row[r] = diagonal[r];
    for (std::size_t c = r + 1; c < n; ++c) row[c] = h.values[c * n + r];
  });
  return has_factor;
}

void CorrectRows(const engine::Matrix& m, std::size_t first_column, float share,
                 std::span<const float> rows, std::size_t n, std::span<float> corrected) {
  assert(rows.size() == corrected.size() && first_column + m.n_columns <= n);
  const std::size_t n_rows = rows.size() / n, n_block = m.n_columns;
  if (n_rows == 0) return;
  std::ranges::copy(rows, corrected.begin());
  std::vector<float> moved(n_rows * n_block);
  engine::Multiply(&rows[first_column], n, {m.values.data(), n_block, false}, n_rows, n_block,
                   n_block, engine::Into::kReplace, moved.data(), n_block);
  for (std::size_t r = 0; r < n_rows; ++r) {
    float* const row = &corrected[r * n + first_column];
    for (std::size_t c = 0; c < n_block; ++c) row[c] += share * moved[r * n_block + c];
  }
}

}  // namespace phiq::calibrate
