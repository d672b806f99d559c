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

void CorrectRows(std::span<const CorrectionBlock> blocks, float share, std::span<const float> rows,
                 std::size_t n, std::span<float> corrected) {
  assert(rows.size() == corrected.size());
  const std::size_t n_rows = rows.size() / n;
  if (n_rows == 0) return;
  std::ranges::copy(rows, corrected.begin());
  for (const CorrectionBlock& block : blocks) {
    const std::size_t n_block = block.m->n_columns;
    assert(block.first_column + n_block <= n);
    std::vector<float> moved(n_rows * n_block);
    engine::Multiply(&rows[block.first_column], n, {block.m->values.data(), n_block, false}, n_rows,
                     n_block, n_block, engine::Into::kReplace, moved.data(), n_block);
    for (std::size_t r = 0; r < n_rows; ++r) {
      float* const row = &corrected[r * n + block.first_column];
      for (std::size_t c = 0; c < n_block; ++c) row[c] += share * moved[r * n_block + c];
    }
  }
}

CorrectionErrors MeasureCorrection(const engine::Runner& runner, const WeightIndex& weights,
                                   std::span<const engine::WeightRows> of, const Probe& probe,
                                   std::span<const CorrectionBlock> blocks, float share) {
  // W x - W' x~ = W (x - x~ - share M x~), so W is multiplied with two vectors a token.
  const engine::Matrix& x = probe.held_back;
  const engine::Matrix& lacks = probe.held_back_lacks;
  const std::size_t n_tokens = x.n_rows, n = x.n_columns;
  if (n_tokens == 0) return {};
  engine::Matrix both;
  both.Resize(2 * n_tokens, n);
  std::ranges::copy(lacks.values, both.values.begin());
  std::ranges::copy(lacks.values, both.Row(n_tokens).begin());
  for (const CorrectionBlock& block : blocks) {
    const engine::Matrix& m = *block.m;
    std::vector<float> moved(n_tokens * m.n_columns);
    engine::Multiply(&x.values[block.first_column], n, {m.values.data(), m.n_columns, true},
                     n_tokens, m.n_columns, m.n_columns, engine::Into::kReplace, moved.data(),
                     m.n_columns);
    for (std::size_t t = 0; t < n_tokens; ++t) {
      float* const row = &both.Row(n_tokens + t)[block.first_column];
      for (std::size_t c = 0; c < m.n_columns; ++c) row[c] -= share * moved[t * m.n_columns + c];
    }
  }
  CorrectionErrors sum;
  std::vector<std::vector<float>> products(runner.threads);
  for (const engine::WeightRows& weight : of) {
    std::vector<CorrectionErrors> of_tile((weight.n_rows + engine::kTileRows - 1) /
                                          engine::kTileRows);
    engine::ForEachTile(runner, weights, weight,
                        [&](std::size_t first_row, std::span<const float> rows, unsigned worker) {
                          const std::size_t n_rows = rows.size() / n;
                          std::vector<float>& product = products[worker];
                          product.resize(2 * n_tokens * n_rows);
                          engine::MultiplyByRows(both.values.data(), 2 * n_tokens, n, rows.data(),
                                                 n_rows, product.data(), n_rows);
                          CorrectionErrors& errors = of_tile[first_row / engine::kTileRows];
                          for (std::size_t i = 0; i < product.size(); ++i) {
                            const double error = product[i];
                            (i < n_tokens * n_rows ? errors.without : errors.with) += error * error;
                          }
                        });
    for (const CorrectionErrors& errors : of_tile) {
      sum.without += errors.without;
      sum.with += errors.with;
    }
  }
  return sum;
}

}  // namespace phiq::calibrate
