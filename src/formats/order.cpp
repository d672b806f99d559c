// Every order is one function to write and one to read; whoever adds one adds it to both.
#include "formats/order.h"

#include <algorithm>
#include <cstring>

#include "base/buffer.h"
#include "kernels/transpose.h"

namespace phiq {
namespace {

std::byte NibbleAt(std::span<const std::byte> bytes, std::uint64_t i) noexcept {
  const std::byte both = bytes[i / 2];
  return i % 2 == 0 ? both & std::byte{0x0F} : both >> 4;
}

void SetNibble(std::span<std::byte> bytes, std::uint64_t i, std::byte nibble) noexcept {
  bytes[i / 2] |= i % 2 == 0 ? nibble : nibble << 4;
}

// Column c of the rows is a run of the stored row c; of all rows the runs are one.
template <typename Use>
void ForEachRun(const RowArray& array, std::uint64_t first_row, std::uint64_t n_rows,
                std::span<std::byte> columns, const Use& use) {
  if (n_rows == array.n_rows) return use(0, columns);
  const std::size_t element_bytes = array.row_bytes / array.order.row_size;
  const std::size_t run_bytes = n_rows * element_bytes;
  for (std::size_t c = 0; c < array.order.row_size; ++c) {
    use((c * array.n_rows + first_row) * element_bytes, columns.subspan(c * run_bytes, run_bytes));
  }
}

void WriteFlatNibbles(const RowArray& array, std::uint64_t first_row, std::uint64_t n_rows,
                      std::span<const std::byte> rows, SharedBytes& shared, const void* key,
                      std::vector<std::byte>& buffer, const WriteBytes& write) {
  const std::size_t n = array.order.row_size;
  const std::uint64_t begin = first_row * n, end = (first_row + n_rows) * n;
  const std::uint64_t first_byte = begin / 2, end_byte = (end + 1) / 2;
  Renew(buffer, end_byte - first_byte);
  std::ranges::fill(buffer, std::byte{});
  for (std::uint64_t r = 0; r < n_rows; ++r) {
    const std::span<const std::byte> row = rows.subspan(r * array.row_bytes, array.row_bytes);
    for (std::size_t i = 0; i < n; ++i)
      SetNibble(buffer, begin - 2 * first_byte + r * n + i, NibbleAt(row, i));
  }
  // Bytes that the rows before or behind have a half of.
  std::span<const std::byte> whole = buffer;
  std::uint64_t offset_bytes = first_byte;
  const auto join = [&](std::uint64_t at, std::byte half) {
    if (const std::optional<std::byte> byte = shared.Join(key, at, half))
      write(at, std::span(&*byte, 1));
  };
  if (begin % 2 != 0) {
    join(first_byte, whole.front());
    whole = whole.subspan(1);
    ++offset_bytes;
  }
  const bool is_shared_behind = end % 2 != 0 && end != array.n_rows * n;
  if (is_shared_behind && !whole.empty()) {
    join(end_byte - 1, whole.back());
    whole = whole.first(whole.size() - 1);
  }
  if (!whole.empty()) write(offset_bytes, whole);
}

void ReadFlatNibbles(const RowArray& array, std::uint64_t first_row, std::uint64_t n_rows,
                     std::span<std::byte> rows, const ReadBytes& read) {
  const std::size_t n = array.order.row_size;
  const std::uint64_t begin = first_row * n, end = (first_row + n_rows) * n;
  std::vector<std::byte> flat((end + 1) / 2 - begin / 2);
  read(begin / 2, flat);
  std::ranges::fill(rows, std::byte{});
  for (std::uint64_t r = 0; r < n_rows; ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      SetNibble(rows.subspan(r * array.row_bytes, array.row_bytes), i,
                NibbleAt(flat, begin % 2 + r * n + i));
    }
  }
}

}  // namespace

std::uint64_t SizeBytes(const RowArray& array) noexcept {
  switch (array.order.kind) {
    case Order::Kind::kCutRows:
      return array.n_rows * array.order.row_size;
    case Order::Kind::kFlatNibbles:
      return (array.n_rows * array.order.row_size + 1) / 2;
    case Order::Kind::kSpreadRows:
      return array.n_rows == 0 ? 0 : (array.n_rows - 1) * array.order.row_size + array.row_bytes;
    case Order::Kind::kRows:
    case Order::Kind::kColumns:
      break;
  }
  return array.n_rows * array.row_bytes;
}

std::optional<std::byte> SharedBytes::Join(const void* array, std::uint64_t offset_bytes,
                                           std::byte half) {
  const std::scoped_lock lock(mutex_);
  const auto [found, is_first] = halves_.try_emplace({array, offset_bytes}, half);
  if (is_first) return std::nullopt;
  const std::byte whole = found->second | half;
  halves_.erase(found);
  return whole;
}

void WriteRows(const RowArray& array, std::uint64_t first_row, std::span<const std::byte> rows,
               SharedBytes& shared, const void* key, std::vector<std::byte>& buffer,
               const WriteBytes& write) {
  const std::uint64_t n_rows = rows.size() / array.row_bytes;
  switch (array.order.kind) {
    case Order::Kind::kRows:
      return write(first_row * array.row_bytes, rows);
    case Order::Kind::kCutRows: {
      const std::size_t n = array.order.row_size;
      Renew(buffer, n_rows * n);
      for (std::uint64_t r = 0; r < n_rows; ++r)
        std::memcpy(&buffer[r * n], &rows[r * array.row_bytes], std::min(n, array.row_bytes));
      return write(first_row * n, buffer);
    }
    case Order::Kind::kColumns:
      Renew(buffer, rows.size());
      Transpose(rows, n_rows, array.order.row_size, array.row_bytes / array.order.row_size, buffer);
      return ForEachRun(array, first_row, n_rows, buffer, write);
    case Order::Kind::kFlatNibbles:
      return WriteFlatNibbles(array, first_row, n_rows, rows, shared, key, buffer, write);
    case Order::Kind::kSpreadRows:
      // What stands between them is another's, who may write it at the same time.
      for (std::uint64_t r = 0; r < n_rows; ++r)
        write((first_row + r) * array.order.row_size,
              rows.subspan(r * array.row_bytes, array.row_bytes));
      return;
  }
}

void ReadRows(const RowArray& array, std::uint64_t first_row, std::span<std::byte> rows,
              const ReadBytes& read) {
  const std::uint64_t n_rows = rows.size() / array.row_bytes;
  switch (array.order.kind) {
    case Order::Kind::kRows:
      return read(first_row * array.row_bytes, rows);
    case Order::Kind::kCutRows: {
      const std::size_t n = array.order.row_size;
      std::vector<std::byte> stored(n_rows * n);
      read(first_row * n, stored);
      std::ranges::fill(rows, std::byte{});
      for (std::uint64_t r = 0; r < n_rows; ++r)
        std::memcpy(&rows[r * array.row_bytes], &stored[r * n], std::min(n, array.row_bytes));
      return;
    }
    case Order::Kind::kColumns: {
      std::vector<std::byte> columns(rows.size());
      ForEachRun(array, first_row, n_rows, columns, read);
      return Transpose(columns, array.order.row_size, n_rows,
                       array.row_bytes / array.order.row_size, rows);
    }
    case Order::Kind::kFlatNibbles:
      return ReadFlatNibbles(array, first_row, n_rows, rows, read);
    case Order::Kind::kSpreadRows:
      for (std::uint64_t r = 0; r < n_rows; ++r)
        read((first_row + r) * array.order.row_size,
             rows.subspan(r * array.row_bytes, array.row_bytes));
      return;
  }
}

void ColumnBands::ReadRows(const RowArray& array, const void* key, std::uint64_t first_row,
                           std::span<std::byte> rows, const ReadBytes& read) {
  if (rows.size() > band_bytes_) return phiq::ReadRows(array, first_row, rows, read);
  for (std::uint64_t row = first_row; !rows.empty();) {
    const std::shared_ptr<const Band> band = Find(array, key, row, read);
    const std::size_t offset_bytes = (row - band->first_row) * array.row_bytes;
    const std::size_t n_bytes = std::min(rows.size(), band->rows.size() - offset_bytes);
    std::memcpy(rows.data(), band->rows.data() + offset_bytes, n_bytes);
    rows = rows.subspan(n_bytes);
    row += n_bytes / array.row_bytes;
  }
}

std::shared_ptr<const ColumnBands::Band> ColumnBands::Find(const RowArray& array, const void* key,
                                                           std::uint64_t row,
                                                           const ReadBytes& read) {
  const std::scoped_lock lock(mutex_);
  for (const std::shared_ptr<const Band>& band : {newest_, oldest_}) {
    if (band && band->key == key && row >= band->first_row && row - band->first_row < band->n_rows)
      return band;
  }
  const std::uint64_t n_at_once = std::max<std::uint64_t>(1, band_bytes_ / array.row_bytes);
  auto band = std::make_shared<Band>();
  band->key = key;
  band->first_row = row / n_at_once * n_at_once;
  band->n_rows = std::min(n_at_once, array.n_rows - band->first_row);
  band->rows.resize(band->n_rows * array.row_bytes);
  phiq::ReadRows(array, band->first_row, band->rows, read);
  oldest_ = std::exchange(newest_, band);
  return band;
}

}  // namespace phiq
