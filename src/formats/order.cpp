// Every order is one function to write and one to read; whoever adds one adds it to both.
#include "formats/order.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/buffer.h"
#include "base/endian.h"
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

constexpr std::uint64_t kRowsInWord = Order::kRowsInWord;
constexpr std::size_t kWordBytes = kRowsInWord / 2;

// The rows of a word, the one in the lowest bits first.
using RowsOfWord = std::array<std::uint8_t, kRowsInWord>;
constexpr RowsOfWord kInOrder = {0, 1, 2, 3, 4, 5, 6, 7}, kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};
const RowsOfWord& RowsOfWords(const Order& order) noexcept {
  return order.kind == Order::Kind::kAwqWords ? kAwqOrder : kInOrder;
}

// The words as rows of their own, each of eight rows.
RowArray WordsOf(const RowArray& array) noexcept {
  const Order order =
      array.order.kind == Order::Kind::kAwqWords ? Order::Columns(array.order.row_size) : Order();
  return {order, array.n_rows / kRowsInWord, array.order.row_size * kWordBytes};
}

// Eight rows, each as its encoding has it, to a row of words.
void JoinRows(const RowArray& array, std::span<const std::byte> rows, std::span<std::byte> words) {
  const RowsOfWord& order = RowsOfWords(array.order);
  for (std::size_t c = 0; c < array.order.row_size; ++c) {
    const int shift = c % 2 == 0 ? 0 : 4;
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < kRowsInWord; ++i) {
      const auto both = std::to_integer<std::uint32_t>(rows[order[i] * array.row_bytes + c / 2]);
      word |= (both >> shift & 15U) << 4 * i;
    }
    StoreLe(word, words, c * kWordBytes);
  }
}

// The rows [first, first + n) of eight.
void PartRows(const RowArray& array, std::span<const std::byte> words, std::uint64_t first,
              std::uint64_t n, std::span<std::byte> rows) {
  const RowsOfWord& order = RowsOfWords(array.order);
  for (std::size_t i = 0; i < kRowsInWord; ++i) {
    if (order[i] < first || order[i] >= first + n) continue;
    const std::span<std::byte> row =
        rows.subspan((order[i] - first) * array.row_bytes, array.row_bytes);
    std::ranges::fill(row, std::byte{});
    for (std::size_t c = 0; c < array.order.row_size; ++c)
      SetNibble(row, c, NibbleAt(words.subspan(c * kWordBytes, kWordBytes), i));
  }
}

// Rows of a word whose others come at another time: byte by byte.
void WritePartOfWords(const RowArray& array, std::uint64_t row, std::span<const std::byte> numbers,
                      SharedBytes& shared, const void* key, const WriteBytes& write) {
  const RowsOfWord& order = RowsOfWords(array.order);
  const RowArray words = WordsOf(array);
  const std::uint64_t word_row = row / kRowsInWord;
  const auto i =
      static_cast<std::size_t>(std::ranges::find(order, row % kRowsInWord) - order.begin());
  for (std::size_t c = 0; c < array.order.row_size; ++c) {
    const std::uint64_t word = array.order.kind == Order::Kind::kAwqWords
                                   ? c * words.n_rows + word_row
                                   : word_row * array.order.row_size + c;
    const std::uint64_t at = word * kWordBytes + i / 2;
    const std::byte nibble = NibbleAt(numbers, c);
    if (const auto byte = shared.Join(key, at, i % 2 == 0 ? nibble : nibble << 4))
      write(at, std::span(&*byte, 1));
  }
}

void WriteWords(const RowArray& array, std::uint64_t first_row, std::uint64_t n_rows,
                std::span<const std::byte> rows, SharedBytes& shared, const void* key,
                std::vector<std::byte>& buffer, const WriteBytes& write) {
  const RowArray words = WordsOf(array);
  const auto row_of = [&](std::uint64_t row) {
    return rows.subspan((row - first_row) * array.row_bytes);
  };
  const std::uint64_t end = first_row + n_rows;
  const std::uint64_t first_whole = (first_row + kRowsInWord - 1) / kRowsInWord * kRowsInWord;
  const std::uint64_t end_whole = std::max(first_whole, end / kRowsInWord * kRowsInWord);
  for (std::uint64_t row = first_row; row < end; ++row) {
    if (row >= first_whole && row < end_whole) continue;
    WritePartOfWords(array, row, row_of(row).first(array.row_bytes), shared, key, write);
  }
  if (first_whole >= end_whole) return;
  std::vector<std::byte> joined((end_whole - first_whole) / kRowsInWord * words.row_bytes);
  for (std::uint64_t row = first_whole; row < end_whole; row += kRowsInWord) {
    JoinRows(array, row_of(row),
             std::span(joined).subspan((row - first_whole) / kRowsInWord * words.row_bytes,
                                       words.row_bytes));
  }
  WriteRows(words, first_whole / kRowsInWord, joined, shared, key, buffer, write);
}

void ReadWords(const RowArray& array, std::uint64_t first_row, std::uint64_t n_rows,
               std::span<std::byte> rows, const ReadBytes& read) {
  const RowArray words = WordsOf(array);
  const std::uint64_t end = first_row + n_rows;
  const std::uint64_t first_word = first_row / kRowsInWord;
  std::vector<std::byte> stored(((end + kRowsInWord - 1) / kRowsInWord - first_word) *
                                words.row_bytes);
  ReadRows(words, first_word, stored, read);
  for (std::uint64_t row = first_row; row < end;) {
    const std::uint64_t first = row % kRowsInWord;
    const std::uint64_t n = std::min(kRowsInWord - first, end - row);
    PartRows(array,
             std::span(stored).subspan((row / kRowsInWord - first_word) * words.row_bytes,
                                       words.row_bytes),
             first, n, rows.subspan((row - first_row) * array.row_bytes));
    row += n;
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
    case Order::Kind::kRowWords:
    case Order::Kind::kAwqWords:
      return array.n_rows / kRowsInWord * array.order.row_size * kWordBytes;
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
    case Order::Kind::kRowWords:
    case Order::Kind::kAwqWords:
      return WriteWords(array, first_row, n_rows, rows, shared, key, buffer, write);
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
    case Order::Kind::kRowWords:
    case Order::Kind::kAwqWords:
      return ReadWords(array, first_row, n_rows, rows, read);
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
