// Rows to bytes and back, in every order; and how often a file is asked for them.
#include "formats/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace phiq {
namespace {

std::vector<std::byte> Bytes(const std::vector<unsigned>& values) {
  std::vector<std::byte> bytes;
  for (const unsigned value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

// The bytes of an array, with a count of how often they were asked for.
struct Stored {
  std::vector<std::byte> bytes;
  std::size_t n_calls = 0;

  WriteBytes write() {
    return [this](std::uint64_t offset_bytes, std::span<const std::byte> part) {
      ++n_calls;
      ASSERT_LE(offset_bytes + part.size(), bytes.size());
      std::memcpy(bytes.data() + offset_bytes, part.data(), part.size());
    };
  }
  ReadBytes read() {
    return [this](std::uint64_t offset_bytes, std::span<std::byte> part) {
      ++n_calls;
      ASSERT_LE(offset_bytes + part.size(), bytes.size());
      std::memcpy(part.data(), bytes.data() + offset_bytes, part.size());
    };
  }
};

// A run of rows for each pair of neighbours in `borders`, written in the order of `runs`.
Stored Write(const RowArray& array, const std::vector<std::byte>& rows,
             const std::vector<std::uint64_t>& borders, std::vector<std::size_t> runs) {
  Stored stored;
  stored.bytes.assign(SizeBytes(array), std::byte{0xEE});
  SharedBytes shared;
  std::vector<std::byte> buffer;
  for (const std::size_t run : runs) {
    const std::size_t begin = borders[run] * array.row_bytes;
    const std::size_t end = borders[run + 1] * array.row_bytes;
    WriteRows(array, borders[run], std::span(rows).subspan(begin, end - begin), shared, &array,
              buffer, stored.write());
  }
  EXPECT_TRUE(shared.is_empty());
  return stored;
}

struct Case {
  RowArray array;
  std::vector<std::byte> rows, bytes;
};

std::vector<Case> Cases() {
  return {
      {{Order(), 3, 2}, Bytes({1, 2, 3, 4, 5, 6}), Bytes({1, 2, 3, 4, 5, 6})},
      {{Order::CutRows(1), 3, 2}, Bytes({1, 0, 3, 0, 5, 0}), Bytes({1, 3, 5})},
      // Two elements of two bytes.
      {{Order::Columns(2), 3, 4},
       Bytes({0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34}),
       Bytes({0x11, 0x12, 0x21, 0x22, 0x31, 0x32, 0x13, 0x14, 0x23, 0x24, 0x33, 0x34})},
      // 1 2 3, 4 5 6, 7 8 9: the byte of 3 and 4 belongs to two rows, the last has one number.
      {{Order::FlatNibbles(3), 3, 2},
       Bytes({0x21, 0x03, 0x54, 0x06, 0x87, 0x09}),
       Bytes({0x21, 0x43, 0x65, 0x87, 0x09})},
      {{Order::FlatNibbles(1), 3, 1}, Bytes({0x0A, 0x0B, 0x0C}), Bytes({0xBA, 0x0C})},
      // What stands between the rows is not touched.
      {{Order::SpreadRows(5), 3, 2},
       Bytes({1, 2, 3, 4, 5, 6}),
       Bytes({1, 2, 0xEE, 0xEE, 0xEE, 3, 4, 0xEE, 0xEE, 0xEE, 5, 6})},
  };
}

TEST(Order, GivesTheSameBytesForAnyRuns) {
  for (const Case& c : Cases()) {
    EXPECT_EQ(SizeBytes(c.array), c.bytes.size());
    EXPECT_EQ(Write(c.array, c.rows, {0, 3}, {0}).bytes, c.bytes);
    for (const std::vector<std::uint64_t>& borders :
         {std::vector<std::uint64_t>{0, 1, 2, 3}, {0, 1, 3}, {0, 2, 3}}) {
      std::vector<std::size_t> runs;
      for (std::size_t i = 0; i + 1 < borders.size(); ++i) runs.push_back(i);
      do {
        EXPECT_EQ(Write(c.array, c.rows, borders, runs).bytes, c.bytes);
      } while (std::ranges::next_permutation(runs).found);
    }
  }
}

// What fills up a row of 4-bit numbers is not 0 (it stands for a code of 0).
TEST(Order, DoesNotLookAtWhatFillsUpARow) {
  const RowArray array = {Order::FlatNibbles(3), 3, 2};
  EXPECT_EQ(Write(array, Bytes({0x21, 0x83, 0x54, 0x86, 0x87, 0x89}), {0, 3}, {0}).bytes,
            Bytes({0x21, 0x43, 0x65, 0x87, 0x09}));
}

TEST(Order, ReadsAnyRunOfRows) {
  for (const Case& c : Cases()) {
    for (std::size_t first = 0; first < 3; ++first) {
      for (std::size_t n = 1; first + n <= 3; ++n) {
        Stored stored{c.bytes};
        std::vector<std::byte> rows(n * c.array.row_bytes, std::byte{0xEE});
        ReadRows(c.array, first, rows, stored.read());
        EXPECT_TRUE(std::ranges::equal(
            rows, std::span(c.rows).subspan(first * c.array.row_bytes, rows.size())));
      }
    }
  }
}

TEST(Order, PutsEightRowsIntoAWord) {
  const std::vector<std::byte> rows = Bytes({0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(Write({Order::RowWords(1), 8, 1}, rows, {0, 8}, {0}).bytes,
            Bytes({0x10, 0x32, 0x54, 0x76}));
  EXPECT_EQ(Write({Order::AwqWords(1), 8, 1}, rows, {0, 8}, {0}).bytes,
            Bytes({0x20, 0x64, 0x31, 0x75}));
}

// Two words of rows, of three numbers each, one of them with what fills up its byte.
TEST(Order, KeepsWordsForAnyRuns) {
  constexpr std::size_t kRows = 16, kNumbers = 3;
  const auto number = [](std::size_t row, std::size_t c) {
    return (5 * row + 3 * c + row / 4) % 16;
  };
  std::vector<std::byte> rows;
  for (std::size_t r = 0; r < kRows; ++r) {
    rows.push_back(static_cast<std::byte>(number(r, 0) | number(r, 1) << 4));
    rows.push_back(static_cast<std::byte>(number(r, 2)));
  }
  constexpr std::size_t kAwq[] = {0, 2, 4, 6, 1, 3, 5, 7};
  std::vector<std::byte> by_rows, awq;
  for (std::size_t word = 0; word < kRows / 8; ++word)
    for (std::size_t c = 0; c < kNumbers; ++c)
      for (std::size_t i = 0; i < 8; i += 2)
        by_rows.push_back(
            static_cast<std::byte>(number(8 * word + i, c) | number(8 * word + i + 1, c) << 4));
  for (std::size_t c = 0; c < kNumbers; ++c)
    for (std::size_t word = 0; word < kRows / 8; ++word)
      for (std::size_t i = 0; i < 8; i += 2)
        awq.push_back(static_cast<std::byte>(number(8 * word + kAwq[i], c) |
                                             number(8 * word + kAwq[i + 1], c) << 4));
  for (const auto& [order, bytes] :
       {std::pair(Order::RowWords(kNumbers), by_rows), std::pair(Order::AwqWords(kNumbers), awq)}) {
    const RowArray array = {order, kRows, 2};
    EXPECT_EQ(SizeBytes(array), bytes.size());
    EXPECT_EQ(Write(array, rows, {0, 16}, {0}).bytes, bytes);
    EXPECT_EQ(Write(array, rows, {0, 8, 16}, {1, 0}).bytes, bytes);
    EXPECT_EQ(Write(array, rows, {0, 3, 16}, {1, 0}).bytes, bytes);
    EXPECT_EQ(Write(array, rows, {0, 1, 9, 11, 16}, {2, 0, 3, 1}).bytes, bytes);
    for (std::size_t first = 0; first < kRows; ++first) {
      for (std::size_t n = 1; first + n <= kRows; ++n) {
        Stored stored{bytes};
        std::vector<std::byte> read(n * 2, std::byte{0xEE});
        ReadRows(array, first, read, stored.read());
        EXPECT_TRUE(std::ranges::equal(read, std::span(rows).subspan(2 * first, read.size())));
      }
    }
  }
}

TEST(Order, WritesAWholeMatrixByColumnsAtOnce) {
  const RowArray array = {Order::Columns(64), 100, 128};
  const std::vector<std::byte> rows(100 * 128);
  EXPECT_EQ(Write(array, rows, {0, 100}, {0}).n_calls, 1U);
  EXPECT_EQ(Write(array, rows, {0, 50, 100}, {0, 1}).n_calls, 2 * 64U);
}

class ByColumns : public ::testing::Test {
 protected:
  ByColumns() {
    for (std::size_t c = 0; c < 64; ++c) {
      for (std::size_t r = 0; r < 1000; ++r) {
        stored_.bytes.push_back(static_cast<std::byte>(r % 251));
        stored_.bytes.push_back(static_cast<std::byte>(c));
      }
    }
  }
  // Reads rows in tiles of 30; returns how often the bytes were asked for.
  std::size_t ReadAll(ColumnBands& bands) {
    stored_.n_calls = 0;
    for (std::uint64_t first = 0; first < 1000; first += 30) {
      std::vector<std::byte> rows(std::min<std::uint64_t>(30, 1000 - first) * 128);
      bands.ReadRows(array_, &array_, first, rows, stored_.read());
      for (std::size_t i = 0; i < rows.size(); i += 2) {
        EXPECT_EQ(rows[i], static_cast<std::byte>((first + i / 128) % 251));
        EXPECT_EQ(rows[i + 1], static_cast<std::byte>(i % 128 / 2));
      }
    }
    return stored_.n_calls;
  }

  const RowArray array_ = {Order::Columns(64), 1000, 128};
  Stored stored_;
};

TEST_F(ByColumns, AreReadOnceWhenTheyFitABand) {
  ColumnBands bands;
  EXPECT_EQ(ReadAll(bands), 1U);
}

TEST_F(ByColumns, AreReadBandByBand) {
  ColumnBands bands(400 * 128);  // 400, 400, 200 rows: a run of each column for each
  EXPECT_EQ(ReadAll(bands), 3 * 64U);
  // Tile by tile it would have been 34 of them.
  ColumnBands none(30 * 128 - 1);
  EXPECT_EQ(ReadAll(none), 34 * 64U);
}

TEST_F(ByColumns, KeepTwoBandsForThreadsThatAreNotEquallyFar) {
  ColumnBands bands(500 * 128);
  std::vector<std::byte> row(128);
  for (const std::uint64_t first : {490, 510, 491, 511, 492})
    bands.ReadRows(array_, &array_, first, row, stored_.read());
  EXPECT_EQ(stored_.n_calls, 2 * 64U);
}

}  // namespace
}  // namespace phiq
