// kSearch and kImatrix: for each block a grid (kernels/grid.h), then the codes nearest to the
// weights. In GGUF's blocks kImatrix is llama-quantize's own search instead, for its bytes.
#include <algorithm>
#include <vector>

#include "kernels/ggml_rows.h"
#include "kernels/grid.h"
#include "phiq/quantize.h"
#include "quantize/float_rows.h"

namespace phiq {
namespace {

void QuantizeSearchedRows(const Encoding& encoding, const RawRows& x, std::size_t n,
                          std::span<const float> importance,
                          std::span<const std::span<std::byte>> arrays) {
  const std::size_t block_size = BlockSize(encoding, n);
  std::vector<Grid> grids((n + block_size - 1) / block_size);
  std::vector<std::uint8_t> codes(n);
  ForEachFloatRow(x, n, [&](std::size_t r, std::span<const float> row) {
    for (std::size_t b = 0; b < grids.size(); ++b) {
      const std::size_t begin = b * block_size, size = std::min(block_size, n - begin);
      const std::span<const float> block = row.subspan(begin, size);
      grids[b] = ChooseGrid(encoding, block, importance.subspan(begin, size));
      for (std::size_t c = 0; c < size; ++c) codes[begin + c] = Nearest(grids[b], c, block[c]).code;
    }
    PackRow(encoding, grids, codes, r, arrays);
  });
}

void QuantizeSearched(const Encoding& encoding, const RawRows& x, std::size_t n,
                      const InputStats& /*stats*/, std::span<const std::span<std::byte>> arrays) {
  QuantizeSearchedRows(encoding, x, n, std::vector<float>(n, 1.0F), arrays);
}

// The mean squares as the search wants them: of a mean of 1, and positive, so that weights whose
// input was always 0 get nearest codes too.
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
