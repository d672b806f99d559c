// Blocks of fixed size, so that sums have one order. Within a panel on the diagonal plain loops do:
// they are n * kPanelRows^2 of the n^3 / 3 operations.
#include "engine/linear_algebra.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "engine/product.h"

namespace phiq::engine {
namespace {

constexpr std::size_t kBlock = 256;       // of results that one thread makes
constexpr std::size_t kBlocksInARow = 4;  // that share one transposed panel of tokens
static_assert(kPanelDepth == 256);        // what the header says of tokens

std::size_t Steps(std::size_t n, std::size_t step) { return (n + step - 1) / step; }

// Of block b of n rows or columns.
std::size_t SizeOf(std::size_t b, std::size_t block, std::size_t n) {
  return std::min(block, n - b * block);
}

// d += transposed(y) * x; with `is_upper` only blocks on the diagonal and above.
void AddProductOverTokens(const Runner& runner, const float* y, const float* x, std::size_t stride,
                          std::size_t n_tokens, bool is_upper, Matrix& d) {
  const std::size_t n = d.n_columns;
  const std::size_t n_blocks = Steps(n, kBlock);
  const std::size_t n_groups = Steps(n_blocks, kBlocksInARow);
  // Columns of y as rows, for one panel of tokens.
  std::vector<std::vector<float>> panels(runner.threads);
  runner.ForEach(n_blocks * n_groups, [&](std::size_t item, unsigned worker) {
    const std::size_t row = item / n_groups;
    const std::size_t end = std::min((item % n_groups + 1) * kBlocksInARow, n_blocks);
    const std::size_t begin =
        std::max(item % n_groups * kBlocksInARow, is_upper ? row : std::size_t{0});
    if (begin >= end) return;
    const std::size_t n_rows = SizeOf(row, kBlock, n);
    const std::size_t n_columns = std::min(end * kBlock, n) - begin * kBlock;
    std::vector<float>& panel = panels[worker];
    panel.resize(kBlock * kPanelDepth);
    for (std::size_t token = 0; token < n_tokens; token += kPanelDepth) {
      const std::size_t depth = std::min(kPanelDepth, n_tokens - token);
      const float* const from = y + token * stride + row * kBlock;
      constexpr std::size_t kTile = 16;  // so that both sides stay within the cache
      for (std::size_t c0 = 0; c0 < n_rows; c0 += kTile)
        for (std::size_t t0 = 0; t0 < depth; t0 += kTile)
          for (std::size_t c = c0; c < std::min(c0 + kTile, n_rows); ++c)
            for (std::size_t t = t0; t < std::min(t0 + kTile, depth); ++t)
              panel[c * kPanelDepth + t] = from[t * stride + c];
      const Factor tokens = {x + token * stride + begin * kBlock, stride, false};
      Multiply(panel.data(), kPanelDepth, tokens, n_rows, n_columns, depth, Into::kAdd,
               d.Row(row * kBlock).data() + begin * kBlock, n);
    }
  });
}

// A panel on the diagonal, whole, with zeros below it.
std::vector<float> CopyPanel(const Matrix& r, std::size_t first, std::size_t size) {
  std::vector<float> panel(size * size);
  for (std::size_t i = 0; i < size; ++i)
    std::ranges::copy(r.Row(first + i).subspan(first + i, size - i), &panel[i * size + i]);
  return panel;
}

void PutPanel(std::span<const float> panel, std::size_t first, std::size_t size, Matrix& r) {
  for (std::size_t i = 0; i < size; ++i)
    std::ranges::copy(panel.subspan(i * size + i, size - i), &r.Row(first + i)[first + i]);
}

// FactorReversed of one panel: from the last column to the first, each takes its part from those
// before.
bool FactorPanel(std::span<float> h, std::size_t n) {
  std::vector<float> column(n);
  for (std::size_t j = n; j-- > 0;) {
    const float pivot = h[j * n + j];
    if (!(pivot > 0) || !std::isfinite(pivot)) return false;
    const float root = std::sqrt(pivot);
    h[j * n + j] = root;
    for (std::size_t i = 0; i < j; ++i) column[i] = h[i * n + j] /= root;
    for (std::size_t i = 0; i < j; ++i) {
      float* const row = &h[i * n];
      const float factor = column[i];
      for (std::size_t k = i; k < j; ++k) row[k] -= factor * column[k];
    }
  }
  return true;
}

// The inverse of one panel: row i is (unit row i - sum over l > i of r[i, l] * row l) / r[i, i].
std::vector<float> InversePanel(std::span<const float> r, std::size_t n) {
  std::vector<float> inverse(n * n);
  for (std::size_t i = n; i-- > 0;) {
    float* const row = &inverse[i * n];
    for (std::size_t l = i + 1; l < n; ++l) {
      const float factor = r[i * n + l];
      const float* const other = &inverse[l * n];
      for (std::size_t k = l; k < n; ++k) row[k] -= factor * other[k];
    }
    row[i] = 1;
    const float diagonal = r[i * n + i];
    for (std::size_t k = i; k < n; ++k) row[k] /= diagonal;
  }
  return inverse;
}

}  // namespace

void AddMoments(const Runner& runner, const float* x, std::size_t x_stride, std::size_t n_tokens,
                Matrix& h) {
  AddProductOverTokens(runner, x, x, x_stride, n_tokens, true, h);
}

void AddCrossMoments(const Runner& runner, const float* y, const float* x, std::size_t stride,
                     std::size_t n_tokens, Matrix& d) {
  AddProductOverTokens(runner, y, x, stride, n_tokens, false, d);
}

void MirrorToLower(Matrix& h) {
  const std::size_t n = h.n_rows;
  constexpr std::size_t kTile = 16;
  for (std::size_t r0 = 0; r0 < n; r0 += kTile)
    for (std::size_t c0 = r0; c0 < n; c0 += kTile)
      for (std::size_t r = r0; r < std::min(r0 + kTile, n); ++r)
        for (std::size_t c = std::max(c0, r + 1); c < std::min(c0 + kTile, n); ++c)
          h.values[c * n + r] = h.values[r * n + c];
}

bool FactorReversed(const Runner& runner, Matrix& h) {
  const std::size_t n = h.n_rows;
  std::vector<std::vector<float>> buffers(runner.threads);
  for (std::size_t p = Steps(n, kPanelRows); p-- > 0;) {
    const std::size_t first = p * kPanelRows;
    const std::size_t size = SizeOf(p, kPanelRows, n);
    std::vector<float> panel = CopyPanel(h, first, size);
    if (!FactorPanel(panel, size)) return false;
    PutPanel(panel, first, size, h);
    // The columns above the panel: r = h * transposed(inverse of the panel).
    const std::vector<float> inverse = InversePanel(panel, size);
    runner.ForEach(p, [&](std::size_t above, unsigned worker) {
      std::vector<float>& product = buffers[worker];
      product.resize(kPanelRows * size);
      float* const rows = &h.Row(above * kPanelRows)[first];
      Multiply(rows, n, {inverse.data(), size, true}, kPanelRows, size, size, Into::kReplace,
               product.data(), size);
      for (std::size_t r = 0; r < kPanelRows; ++r)
        std::copy_n(&product[r * size], size, rows + r * n);
    });
    // From here on the columns are final; what is left of them loses their part.
    const std::size_t n_blocks = Steps(first, kBlock);
    runner.ForEach(n_blocks * n_blocks, [&](std::size_t item, unsigned worker) {
      const std::size_t row = item / n_blocks;
      const std::size_t column = item % n_blocks;
      if (column < row) return;
      const std::size_t n_rows = SizeOf(row, kBlock, first);
      const std::size_t n_columns = SizeOf(column, kBlock, first);
      const float* const left = &h.Row(row * kBlock)[first];
      const Factor right = {&h.Row(column * kBlock)[first], n, true};
      float* const out = &h.Row(row * kBlock)[column * kBlock];
      if (row != column) {
        Multiply(left, n, right, n_rows, n_columns, size, Into::kSubtract, out, n);
        return;
      }
      std::vector<float>& block = buffers[worker];
      block.resize(kBlock * kBlock);
      Multiply(left, n, right, n_rows, n_columns, size, Into::kReplace, block.data(), kBlock);
      for (std::size_t r = 0; r < n_rows; ++r)
        for (std::size_t c = r; c < n_columns; ++c) out[r * n + c] -= block[r * kBlock + c];
    });
  }
  return true;
}

void InvertUpper(const Runner& runner, Matrix& r) {
  const std::size_t n = r.n_rows;
  const std::size_t n_panels = Steps(n, kPanelRows);
  std::vector<std::vector<float>> inverses(n_panels);  // of the panels
  std::vector<std::vector<float>> buffers(runner.threads);
  std::vector<float> columns;  // those above a panel, before they are overwritten
  for (std::size_t p = 0; p < n_panels; ++p) {
    const std::size_t first = p * kPanelRows;
    const std::size_t size = SizeOf(p, kPanelRows, n);
    inverses[p] = InversePanel(CopyPanel(r, first, size), size);
    PutPanel(inverses[p], first, size, r);
    columns.resize(first * size);
    for (std::size_t i = 0; i < first; ++i) std::copy_n(&r.Row(i)[first], size, &columns[i * size]);
    // Rows of u above the panel: -(u left of the panel * those columns) * inverse of the panel.
    runner.ForEach(p, [&](std::size_t above, unsigned worker) {
      std::vector<float>& product = buffers[worker];
      product.resize(kPanelRows * size);
      const std::size_t top = above * kPanelRows;
      Multiply(inverses[above].data(), kPanelRows, {&columns[top * size], size, false}, kPanelRows,
               size, kPanelRows, Into::kReplace, product.data(), size);
      const std::size_t right = top + kPanelRows;
      if (right < first) {
        Multiply(&r.Row(top)[right], n, {&columns[right * size], size, false}, kPanelRows, size,
                 first - right, Into::kAdd, product.data(), size);
      }
      float* const out = &r.Row(top)[first];
      for (std::size_t i = 0; i < kPanelRows; ++i) std::fill_n(out + i * n, size, 0.0F);
      Multiply(product.data(), size, {inverses[p].data(), size, false}, kPanelRows, size, size,
               Into::kSubtract, out, n);
    });
  }
}

void MultiplyByInverse(const Runner& runner, const Matrix& u, Matrix& m) {
  const std::size_t n = u.n_rows;
  const std::size_t n_panels = Steps(n, kPanelRows);
  std::vector<std::vector<float>> panels(n_panels);
  for (std::size_t p = 0; p < n_panels; ++p)
    panels[p] = CopyPanel(u, p * kPanelRows, SizeOf(p, kPanelRows, n));
  std::vector<std::vector<float>> buffers(runner.threads);
  runner.ForEach(Steps(m.n_rows, kBlock), [&](std::size_t item, unsigned worker) {
    const std::size_t n_rows = SizeOf(item, kBlock, m.n_rows);
    float* const rows = m.Row(item * kBlock).data();
    std::vector<float>& half = buffers[worker];  // m * transposed(u)
    half.resize(kBlock * n);
    for (std::size_t p = 0; p < n_panels; ++p) {
      const std::size_t first = p * kPanelRows;
      const std::size_t size = SizeOf(p, kPanelRows, n);
      Multiply(rows + first, n, {panels[p].data(), size, true}, n_rows, size, size, Into::kReplace,
               &half[first], n);
      const std::size_t right = first + size;
      if (right < n) {
        Multiply(rows + right, n, {&u.Row(first)[right], n, true}, n_rows, size, n - right,
                 Into::kAdd, &half[first], n);
      }
    }
    for (std::size_t p = 0; p < n_panels; ++p) {
      const std::size_t first = p * kPanelRows;
      const std::size_t size = SizeOf(p, kPanelRows, n);
      Multiply(&half[first], n, {panels[p].data(), size, false}, n_rows, size, size, Into::kReplace,
               rows + first, n);
      if (first > 0) {
        Multiply(half.data(), n, {&u.values[first], n, false}, n_rows, size, first, Into::kAdd,
                 rows + first, n);
      }
    }
  });
}

}  // namespace phiq::engine
