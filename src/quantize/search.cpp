// kSearch and kImatrix: for each block a grid (kernels/grid.h), then the codes nearest to the
// weights. In GGUF's blocks kImatrix is llama-quantize's own search instead, for its bytes.
#include "quantize/search.h"

#include <algorithm>
#include <vector>

#include "kernels/ggml_rows.h"
#include "kernels/grid.h"
#include "phiq/quantize.h"
#include "quantize/float_rows.h"

namespace phiq {

std::vector<float> ImportanceOf(std::span<const float> squares) {
  constexpr double kLeast = 1e-4;
  double sum = 0;
  for (const float square : squares) sum += square;
  const double mean = sum / static_cast<double>(squares.size());
  std::vector<float> importance(squares.size(), 1.0F);
  if (!(mean > 0)) return importance;
  for (std::size_t c = 0; c < squares.size(); ++c)
    importance[c] = static_cast<float>(std::max(squares[c] / mean, kLeast));
  return importance;
}

void QuantizeSearchedRows(const Encoding& encoding, const RawRows& x, std::size_t n,
                          std::span<const float> importance,
                          std::span<const std::span<std::byte>> arrays) {
  const std::size_t n_rows = x.size() / n;
  const std::size_t block_size = std::min(BlockSize(encoding, n), n);
  const std::size_t n_blocks = (n + block_size - 1) / block_size;
  // Blocks are searched side by side: the same ones of a few rows.
  const std::size_t n_together = std::min((kBlocksAtOnce + n_blocks - 1) / n_blocks, n_rows);
  std::vector<WeighedBlock> blocks;
  std::vector<Grid> grids(n_together * n_blocks);
  std::vector<BlockScales> scales(n_blocks);
  std::vector<std::uint8_t> codes(n);
  std::vector<float> rows(n_together * n);
  for (std::size_t first = 0; first < n_rows; first += n_together) {
    const std::size_t n_now = std::min(n_together, n_rows - first);
    simd::ConvertFloats(StartOf(x).From(first * n), n_now * n, FloatType::kF32,
                        std::as_writable_bytes(std::span(rows)).data());
    const auto row = [&](std::size_t r) { return std::span<const float>(rows).subspan(r * n, n); };
    const auto choose = [&](std::size_t from, std::size_t to, std::size_t size) {
      blocks.clear();
      for (std::size_t b = from; b < to; ++b)
        for (std::size_t r = 0; r < n_now; ++r)
          blocks.push_back({&row(r)[b * block_size], &importance[b * block_size]});
      ChooseGrids(encoding, size, blocks, std::span(grids).subspan(from * n_now, blocks.size()));
    };
    const std::size_t n_whole = n / block_size;
    choose(0, n_whole, block_size);
    choose(n_whole, n_blocks, n % block_size);
    for (std::size_t r = 0; r < n_now; ++r) {
      const auto grid = [&](std::size_t b) -> const Grid& { return grids[b * n_now + r]; };
      for (std::size_t c = 0; c < n; ++c)
        codes[c] = Nearest(grid(c / block_size), c % block_size, row(r)[c]).code;
      for (std::size_t b = 0; b < n_blocks; ++b) scales[b] = grid(b);
      PackRow(encoding, scales, codes, first + r, arrays);
    }
  }
}

namespace {

void QuantizeSearched(const Encoding& encoding, const RawRows& x, std::size_t n,
                      const InputStats& /*stats*/, std::span<const std::span<std::byte>> arrays) {
  QuantizeSearchedRows(encoding, x, n, std::vector<float>(n, 1.0F), arrays);
}

void QuantizeByImportance(const Encoding& encoding, const RawRows& x, std::size_t n,
                          const InputStats& stats, std::span<const std::span<std::byte>> arrays) {
  const GgmlType* type = std::get_if<GgmlType>(&encoding);
  if (type == nullptr)
    return QuantizeSearchedRows(encoding, x, n, ImportanceOf(stats.squares), arrays);
  const std::size_t row_bytes = GgmlRowBytes(*type, n);
  ForEachFloatRow(x, n, [&](std::size_t r, std::span<const float> row) {
    QuantizeGgmlRow(*type, stats.squares, row, arrays[0].subspan(r * row_bytes, row_bytes));
  });
}

}  // namespace

constinit const Method kSearch = {"search", FloatType::kF32, Needs::kNothing, HasGrid,
                                  QuantizeSearched};
constinit const Method kImatrix = {"imatrix", FloatType::kF32, Needs::kSquares, HasGrid,
                                   QuantizeByImportance};

}  // namespace phiq
