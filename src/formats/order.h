// Where the rows of an array stand in its bytes, for those who write them and those who read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace phiq {

struct Order {
  enum class Kind : std::uint8_t {
    kRows,         // one behind the other, each as its encoding has it
    kCutRows,      // likewise, each without the last bytes that its encoding has
    kColumns,      // a matrix the other way round: [row_size, rows]
    kFlatNibbles,  // rows of 4-bit numbers, of which the next begins in the last byte of one
    kSpreadRows,   // with room for other rows between them
    // Rows of 4-bit numbers of which eight make one of little-endian words: a word holds the
    // numbers that eight rows have at one place, those of the first row lowest.
    kRowWords,  // [rows / 8, row_size] words
    // Likewise, with the rows of a word in the order 0, 2, 4, 6, 1, 3, 5, 7, and the other way
    // round: [row_size, rows / 8] words. Of AWQ.
    kAwqWords,
  };
  static constexpr std::uint64_t kRowsInWord = 8;
  Kind kind = Kind::kRows;
  // Of kCutRows the bytes of a row as stored, of kSpreadRows those from the start of a row to that
  // of the next, of kColumns its elements, of the others its numbers.
  std::size_t row_size = 0;

  static Order CutRows(std::size_t n_bytes) { return {Kind::kCutRows, n_bytes}; }
  static Order SpreadRows(std::size_t step_bytes) { return {Kind::kSpreadRows, step_bytes}; }
  // Elements of a whole number of bytes.
  static Order Columns(std::size_t n_elements) { return {Kind::kColumns, n_elements}; }
  // Numbers two in a byte, the first in the low nibble; a high nibble that is left over is 0.
  static Order FlatNibbles(std::size_t n) { return {Kind::kFlatNibbles, n}; }
  // Of arrays of a multiple of kRowsInWord rows.
  static Order RowWords(std::size_t n) { return {Kind::kRowWords, n}; }
  static Order AwqWords(std::size_t n) { return {Kind::kAwqWords, n}; }

  // Runs of rows that begin and end at multiples of kRowsInWord are written many times as fast.
  bool HasRowsInWords() const noexcept { return kind >= Kind::kRowWords; }
  // A few rows are short runs of bytes everywhere in the array.
  bool IsByColumns() const noexcept { return kind == Kind::kColumns || kind == Kind::kAwqWords; }

  bool operator==(const Order&) const = default;
};

// An array of rows.
struct RowArray {
  Order order;
  std::uint64_t n_rows = 0;
  std::size_t row_bytes = 0;  // of a row as its encoding has it (ArrayRowBytes)
};

// Bytes that an array takes.
std::uint64_t SizeBytes(const RowArray& array) noexcept;

// Bytes of which one half is known: rows of 4-bit numbers may share a byte, and come from different
// threads. Threads: safe.
class SharedBytes {
 public:
  // The byte at `offset_bytes` of an array, when this was its missing half.
  std::optional<std::byte> Join(const void* array, std::uint64_t offset_bytes, std::byte half);
  bool is_empty() const noexcept { return halves_.empty(); }

 private:
  std::mutex mutex_;
  std::map<std::pair<const void*, std::uint64_t>, std::byte> halves_;
};

// Offsets are counted from the start of the array.
using WriteBytes = std::function<void(std::uint64_t offset_bytes, std::span<const std::byte>)>;
using ReadBytes = std::function<void(std::uint64_t offset_bytes, std::span<std::byte>)>;

// Writes rows, each as its encoding has it, where they belong. Rows may come in any runs and order.
//
// Shapes    rows: [n, row_bytes].
// `shared`  the same for all rows of an array; `key` stands for the array in it.
// `buffer`  as large as `rows` afterwards, unless rows stand as they come.
void WriteRows(const RowArray& array, std::uint64_t first_row, std::span<const std::byte> rows,
               SharedBytes& shared, const void* key, std::vector<std::byte>& buffer,
               const WriteBytes& write);

// Reads rows [first_row, first_row + rows.size() / row_bytes), each as its encoding has it: bytes
// that are not stored are 0.
void ReadRows(const RowArray& array, std::uint64_t first_row, std::span<std::byte> rows,
              const ReadBytes& read);

// Reads the rows of arrays that are stored by columns, or in words. A few rows are a run of a few
// bytes in each column, so many are read at once and kept: those who read a matrix read it from its
// first row to its last.
class ColumnBands {
 public:
  static constexpr std::size_t kBandBytes = std::size_t{32} << 20;

  explicit ColumnBands(std::size_t band_bytes = kBandBytes) : band_bytes_(band_bytes) {}

  // As the function ReadRows. `key` stands for the array. Threads: safe.
  void ReadRows(const RowArray& array, const void* key, std::uint64_t first_row,
                std::span<std::byte> rows, const ReadBytes& read);

 private:
  struct Band {
    const void* key = nullptr;
    std::uint64_t first_row = 0, n_rows = 0;
    std::vector<std::byte> rows;
  };
  std::shared_ptr<const Band> Find(const RowArray& array, const void* key, std::uint64_t row,
                                   const ReadBytes& read);

  const std::size_t band_bytes_;
  std::mutex mutex_;
  // Threads that are done with one band while others are not use two.
  std::shared_ptr<const Band> newest_, oldest_;
};

}  // namespace phiq
