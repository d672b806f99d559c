// Squares are added in float32 over 256 tokens and then in double: columns of one input differ by
// many powers of ten. Moments are AddMoments' own sums.
#include "calibrate/input_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "calibrate/inputs.h"
#include "engine/linear_algebra.h"
#include "phiq/error.h"

namespace phiq::calibrate {
namespace {

constexpr std::size_t kTileColumns = 512;
constexpr std::size_t kTileTokens = 256;

std::size_t Steps(std::size_t n, std::size_t step) { return (n + step - 1) / step; }

// Of the columns [first, first + sums.size()).
void AddSquares(const engine::Matrix& x, std::size_t first, std::span<double> sums) {
  std::vector<float> tile(sums.size());
  for (std::size_t t0 = 0; t0 < x.n_rows; t0 += kTileTokens) {
    std::ranges::fill(tile, 0.0F);
    for (std::size_t t = t0; t < std::min(t0 + kTileTokens, x.n_rows); ++t) {
      const float* const row = x.Row(t).data() + first;
      for (std::size_t c = 0; c < tile.size(); ++c) tile[c] += row[c] * row[c];
    }
    for (std::size_t c = 0; c < tile.size(); ++c) sums[c] += tile[c];
  }
}

// Takes Probe::kTokens tokens, spread evenly over `n_all`, from those that follow `n_before`.
void TakeProbe(const engine::Matrix& x, std::size_t n_before, std::size_t n_all,
               engine::Matrix& probe) {
  const std::size_t n = std::min(n_all, Probe::kTokens);
  if (probe.n_rows != n) probe.Resize(n, x.n_columns);
  for (std::size_t p = 0; p < n; ++p) {
    const std::size_t token = p * n_all / n;
    if (token >= n_before && token < n_before + x.n_rows)
      std::ranges::copy(x.Row(token - n_before), probe.Row(p).begin());
  }
}

}  // namespace

std::vector<std::size_t> BlocksOf(std::size_t n_columns, std::size_t widest) {
  assert(widest >= 2 * kBlockMultiple);
  if (n_columns <= widest) return {n_columns};
  const std::size_t n_blocks = Steps(n_columns, widest / 2);
  const std::size_t size = Steps(Steps(n_columns, n_blocks), kBlockMultiple) * kBlockMultiple;
  std::vector<std::size_t> blocks(n_columns / size, size);
  if (n_columns % size != 0) blocks.push_back(n_columns % size);
  return blocks;
}

InputStatistics::InputStatistics(WeightId weight, std::size_t n_columns, const Wanted& wanted)
    : weight_(weight), wanted_(wanted), n_columns_(n_columns), square_sums_(n_columns) {
  if (wanted.needs != Needs::kMoments) return;
  std::size_t first = 0;
  for (const std::size_t size : BlocksOf(n_columns, wanted.widest_block)) {
    Block& block = blocks_.emplace_back(Block{first, {}, {}});
    for (engine::Matrix* const moments : {&block.h, &block.d}) {
      if (moments == &block.d && !wanted.lacks) continue;
      moments->Resize(size, size);
      std::ranges::fill(moments->values, 0.0F);
    }
    first += size;
  }
}

void InputStatistics::Add(const engine::Runner& runner, const engine::Matrix& x,
                          const engine::Matrix* lacks) {
  assert(x.n_columns == n_columns_ && (lacks != nullptr) == wanted_.lacks);
  runner.ForEach(Steps(n_columns_, kTileColumns), [&](std::size_t item, unsigned) {
    const std::size_t first = item * kTileColumns;
    AddSquares(x, first,
               std::span(square_sums_).subspan(first, std::min(kTileColumns, n_columns_ - first)));
  });
  for (Block& block : blocks_) {
    const float* const columns = x.values.data() + block.first_column;
    engine::AddMoments(runner, columns, x.n_columns, x.n_rows, block.h);
    if (lacks != nullptr)
      engine::AddCrossMoments(runner, lacks->values.data() + block.first_column, columns,
                              x.n_columns, x.n_rows, block.d);
  }
  TakeProbe(x, n_added_, wanted_.n_tokens, probe_.seen);
  if (lacks != nullptr) TakeProbe(*lacks, n_added_, wanted_.n_tokens, probe_.seen_lacks);
  n_added_ += x.n_rows;
}

void InputStatistics::AddHeldBack(const engine::Matrix& x, const engine::Matrix* lacks) {
  assert(x.n_columns == n_columns_ && (lacks != nullptr) == wanted_.lacks);
  TakeProbe(x, n_held_back_added_, wanted_.n_held_back, probe_.held_back);
  if (lacks != nullptr)
    TakeProbe(*lacks, n_held_back_added_, wanted_.n_held_back, probe_.held_back_lacks);
  n_held_back_added_ += x.n_rows;
}

void InputStatistics::Finish() {
  constexpr float kMost = 1e30F;  // what the searches and the factor bear
  if (reached_.of_columns.empty()) reached_ = Sums();
  squares_.resize(n_columns_);
  for (std::size_t c = 0; c < n_columns_; ++c) {
    // As an importance matrix has it: the sum as float32, and then the mean.
    squares_[c] = static_cast<float>(square_sums_[c]) / static_cast<float>(n_added_);
    if (squares_[c] <= kMost) continue;
    throw Error(ErrorCode::kNumeric,
                fmt::format("{}: column {} has a mean square of {:.3g} on the calibration text, "
                            "above {:.0e}",
                            InputName(weight_), c, squares_[c], kMost));
  }
  const float share = 1.0F / static_cast<float>(n_added_);
  for (Block& block : blocks_)
    for (engine::Matrix* const moments : {&block.h, &block.d})
      for (float& value : moments->values) value *= share;
}

}  // namespace phiq::calibrate
