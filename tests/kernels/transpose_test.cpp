// Rows to columns, of every element size.
#include "kernels/transpose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace phiq {
namespace {

std::vector<std::byte> Transposed(const std::vector<std::byte>& in, std::size_t n_rows,
                                  std::size_t n_columns, std::size_t element_bytes) {
  std::vector<std::byte> out(in.size(), std::byte{0xEE});
  Transpose(in, n_rows, n_columns, element_bytes, out);
  return out;
}

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(Transpose, TurnsRowsIntoColumns) {
  EXPECT_EQ(Transposed(Bytes({1, 2, 3, 4, 5, 6}), 2, 3, 1), Bytes({1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(Transposed(Bytes({1, 11, 2, 12, 3, 13, 4, 14}), 2, 2, 2),
            Bytes({1, 11, 3, 13, 2, 12, 4, 14}));
  EXPECT_EQ(Transposed(Bytes({1, 2, 3, 4, 5, 6, 7, 8}), 2, 1, 4), Bytes({1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(Transpose, KeepsRowsAndColumnsOfOne) {
  const std::vector<std::byte> row = Bytes({1, 2, 3, 4});
  EXPECT_EQ(Transposed(row, 1, 4, 1), row);
  EXPECT_EQ(Transposed(row, 4, 1, 1), row);
  EXPECT_EQ(Transposed(row, 1, 1, 4), row);
  EXPECT_EQ(Transposed({}, 0, 5, 4), Bytes({}));
}

// Around the size of a tile.
TEST(Transpose, PutsEveryElementWhereItBelongs) {
  for (const std::size_t element_bytes : {1U, 2U, 4U}) {
    for (const std::size_t n_rows : {1U, 2U, 31U, 32U, 33U, 65U, 100U}) {
      for (const std::size_t n_columns : {1U, 3U, 31U, 32U, 33U, 64U, 97U}) {
        std::vector<std::byte> in(n_rows * n_columns * element_bytes);
        for (std::size_t i = 0; i < in.size(); ++i)
          in[i] = static_cast<std::byte>(i * 2654435761U >> 13);
        const std::vector<std::byte> out = Transposed(in, n_rows, n_columns, element_bytes);
        std::size_t n_wrong = 0;
        for (std::size_t r = 0; r < n_rows; ++r) {
          for (std::size_t c = 0; c < n_columns; ++c) {
            for (std::size_t b = 0; b < element_bytes; ++b)
              n_wrong += out[(c * n_rows + r) * element_bytes + b] !=
                         in[(r * n_columns + c) * element_bytes + b];
          }
        }
        EXPECT_EQ(n_wrong, 0U) << n_rows << " x " << n_columns << " of " << element_bytes;
        EXPECT_EQ(Transposed(out, n_columns, n_rows, element_bytes), in);
      }
    }
  }
}

}  // namespace
}  // namespace phiq
