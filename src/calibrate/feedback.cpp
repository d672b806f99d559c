// kFeedback: GPTQ's loop over columns (Frantar et al. 2022) around the searches of kernels/grid.h.
//
// Rows go together so that what a column's errors take from the columns behind it is a matrix
// product. They do not know of each other: how many go together changes no bit. A window of at most
// 256 columns is a chain of chunks; only the whole window's errors go into the columns behind it.
#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "calibrate/feedback_chunk.h"
#include "engine/product.h"
#include "kernels/grid.h"
#include "phiq/quantize.h"
#include "quantize/float_rows.h"
#include "quantize/search.h"

namespace phiq {
namespace {

using calibrate::Chunk;
using calibrate::kChunkColumns;
using engine::Into;

constexpr std::size_t kWindow = engine::kPanelDepth;
static_assert(kFeedbackRows == calibrate::kChunkRows);

class Batch {
 public:
  Batch(const Encoding& encoding, std::size_t n, std::span<const float> importance)
      : encoding_(encoding),
        n_(n),
        block_size_(std::min(BlockSize(encoding, n), n)),
        n_blocks_((n + block_size_ - 1) / block_size_),
        integers_(RunIntegersOf(encoding)),
        importance_(importance),
        chunk_(std::make_unique<Chunk>()) {}

  void Quantize(std::span<const float> x, std::span<const FactorBlock> factor,
                std::size_t first_row, std::span<const std::span<std::byte>> arrays) {
    n_rows_ = x.size() / n_;
    weights_.assign(x.begin(), x.end());
    codes_.resize(x.size());
    errors_.resize(n_rows_ * kWindow);
    grids_.resize(n_rows_);
    blocks_.resize(n_rows_ * n_blocks_);
    losses_.assign(n_rows_, 0.0F);
    chunk_->n_rows = n_rows_;
    for (const FactorBlock& block : factor) {
      const std::size_t end = block.first_column + block.n;
      for (std::size_t begin = block.first_column; begin < end;) {
        const std::size_t window_end = WindowEnd(begin, end);
        RoundWindow(block, begin, window_end);
        Subtract(block, begin, window_end - begin, 0, window_end, end);
        begin = window_end;
      }
    }
    for (std::size_t r = 0; r < n_rows_; ++r) {
      if (IsFinite(r)) {
        PackRow(encoding_, Blocks(r), std::span(codes_).subspan(r * n_, n_), first_row + r, arrays);
      } else {
        SearchAlone(x.subspan(r * n_, n_), first_row + r, arrays);
      }
    }
  }

 private:
  std::span<BlockScales> Blocks(std::size_t row) {
    return std::span(blocks_).subspan(row * n_blocks_, n_blocks_);
  }
  float* Weights(std::size_t row, std::size_t column) { return &weights_[row * n_ + column]; }

  // A window ends where a block does, if any ends in time.
  std::size_t WindowEnd(std::size_t begin, std::size_t end) const {
    const std::size_t block = begin / block_size_;
    const std::size_t wanted = block_size_ <= kWindow
                                   ? (block + kWindow / block_size_) * block_size_
                                   : std::min(begin + kWindow, (block + 1) * block_size_);
    return std::min(wanted, end);
  }

  void RoundWindow(const FactorBlock& block, std::size_t begin, std::size_t end) {
    for (std::size_t column = begin; column < end;) {
      const std::size_t b = column / block_size_;
      const std::size_t block_begin = b * block_size_;
      const std::size_t block_end = std::min(block_begin + block_size_, n_);
      if (column == block_begin) ChooseBlocks(b, block_begin, block_end);
      const std::size_t width =
          HasIntegers() ? std::min(grids_[0].run_size, kChunkColumns) : kChunkColumns;
      const std::size_t size = std::min({width, block_end - column, end - column});
      FillChunk(block, column, size);
      if (HasIntegers()) ChooseCandidates(column - block_begin, column);
      FeedThrough(*chunk_);
      TakeChunk(b, column - block_begin, column, begin);
      Subtract(block, column, size, column - begin, column + size, end);
      column += size;
    }
  }

  // Weights of the columns from `column` on, of all rows.
  std::span<const WeighedBlock> AllRows(std::size_t column) {
    for (std::size_t r = 0; r < n_rows_; ++r)
      views_[r] = {Weights(r, column), &importance_[column]};
    return std::span(views_).first(n_rows_);
  }

  void ChooseBlocks(std::size_t b, std::size_t begin, std::size_t end) {
    ChooseGrids(encoding_, end - begin, AllRows(begin), grids_);
    for (std::size_t r = 0; r < n_rows_; ++r) Blocks(r)[b] = grids_[r];
  }

  // The weights of columns [from, to) less what errors of `size` columns, from errors_' column
  // `at` on, are to be made up for.
  void Subtract(const FactorBlock& block, std::size_t column, std::size_t size, std::size_t at,
                std::size_t from, std::size_t to) {
    if (from == to) return;
    const float* const u =
        &block.u[(column - block.first_column) * block.n + from - block.first_column];
    engine::Multiply(&errors_[at], kWindow, {u, block.n, false}, n_rows_, to - from, size,
                     Into::kSubtract, Weights(0, from), n_);
  }

  bool HasIntegers() const { return integers_.high > 0; }

  void FillChunk(const FactorBlock& block, std::size_t column, std::size_t size) {
    Chunk& chunk = *chunk_;
    chunk.n_columns = size;
    const std::size_t first = column - block.first_column;
    for (std::size_t j = 0; j < size; ++j) {
      const float* const u = &block.u[(first + j) * block.n + first];
      chunk.diagonal[j] = u[j];
      std::copy(u + j + 1, u + size, chunk.u[j] + j + 1);
    }
    for (std::size_t r = 0; r < n_rows_; ++r) {
      const float* const w = Weights(r, column);
      for (std::size_t j = 0; j < size; ++j) chunk.weights[j][r] = w[j];
      chunk.scales[0][r] = grids_[r].scales[0];
      chunk.offsets[0][r] = grids_[r].offsets[0];
      chunk.zeros[r] = static_cast<float>(grids_[r].zero);
    }
    chunk.n_candidates = 1;
    chunk.levels = grids_[0].levels;
    chunk.last_code = static_cast<float>(grids_[0].last_code);
  }

  RunLine Candidate(std::size_t row, std::size_t candidate) const {
    return Moved(own_[row], StepsAround(integers_)[candidate], integers_);
  }

  // `at`: the column within the block.
  void ChooseCandidates(std::size_t at, std::size_t column) {
    Chunk& chunk = *chunk_;
    chunk.n_candidates = StepsAround(integers_).size();
    ChooseRuns(encoding_, grids_, AllRows(column), own_);
    for (std::size_t r = 0; r < n_rows_; ++r) {
      Grid& grid = grids_[r];
      const std::size_t run = at / grid.run_size;
      for (std::size_t k = 0; k < chunk.n_candidates; ++k) {
        SetRun(grid, run, Candidate(r, k));
        chunk.scales[k][r] = grid.scales[run];
        chunk.offsets[k][r] = grid.offsets[run];
      }
    }
  }

  void TakeChunk(std::size_t b, std::size_t at, std::size_t column, std::size_t window_begin) {
    const Chunk& chunk = *chunk_;
    for (std::size_t r = 0; r < n_rows_; ++r) {
      float* const errors = &errors_[r * kWindow + column - window_begin];
      std::uint8_t* const codes = &codes_[r * n_ + column];
      for (std::size_t j = 0; j < chunk.n_columns; ++j) {
        errors[j] = chunk.errors[j][r];
        codes[j] = static_cast<std::uint8_t>(chunk.codes[j][r]);
      }
      losses_[r] += chunk.loss[r];
      if (!HasIntegers()) continue;
      Grid& grid = grids_[r];
      SetRun(grid, at / grid.run_size, Candidate(r, static_cast<std::size_t>(chunk.chosen[r])));
      Blocks(r)[b] = grid;
    }
  }

  // False where errors grew beyond what floats or the encoding's scales hold.
  bool IsFinite(std::size_t row) {
    return std::isfinite(losses_[row]) &&
           std::ranges::all_of(Blocks(row), [](const BlockScales& block) {
             return std::isfinite(block.scale) && std::isfinite(block.offset);
           });
  }

  void SearchAlone(std::span<const float> x, std::size_t row,
                   std::span<const std::span<std::byte>> arrays) const {
    std::vector<std::span<std::byte>> of_row;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      const std::size_t row_bytes = ArrayRowBytes(encoding_, i, n_);
      of_row.push_back(arrays[i].subspan(row * row_bytes, row_bytes));
    }
    QuantizeSearchedRows(encoding_, x, n_, importance_, of_row);
  }

  const Encoding& encoding_;
  const std::size_t n_, block_size_, n_blocks_;
  const RunIntegers integers_;
  const std::span<const float> importance_;

  std::size_t n_rows_ = 0;
  std::vector<float> weights_;              // [n_rows, n]: less what is made up for
  std::vector<std::uint8_t> codes_;         // [n_rows, n]
  std::vector<float> errors_;               // [n_rows, kWindow]
  std::vector<Grid> grids_;                 // [n_rows]: of the block whose turn it is
  std::vector<BlockScales> blocks_;         // [n_rows, n_blocks]
  std::vector<float> losses_;               // [n_rows]
  std::array<RunLine, kFeedbackRows> own_;  // of the run whose turn it is
  std::array<WeighedBlock, kFeedbackRows> views_;
  std::unique_ptr<Chunk> chunk_;
};

void QuantizeWithFeedback(const Encoding& encoding, const RawRows& x, std::size_t n,
                          const InputStats& stats, std::span<const std::span<std::byte>> arrays) {
  assert(!stats.factor.empty());
  const std::vector<float> importance = ImportanceOf(stats.squares);
  Batch batch(encoding, n, importance);
  const std::size_t n_all = x.size() / n;
  std::vector<float> rows(std::min(kFeedbackRows, n_all) * n);
  for (std::size_t row = 0; row < n_all; row += kFeedbackRows) {
    const std::size_t n_rows = std::min(kFeedbackRows, n_all - row);
    const std::span<float> floats = std::span(rows).first(n_rows * n);
    simd::ConvertFloats(StartOf(x).From(row * n), floats.size(), FloatType::kF32,
                        std::as_writable_bytes(floats).data());
    batch.Quantize(floats, stats.factor, row, arrays);
  }
}

}  // namespace

constinit const Method kFeedback = {"feedback", FloatType::kF32, Needs::kMoments, HasGrid,
                                    QuantizeWithFeedback};

}  // namespace phiq
