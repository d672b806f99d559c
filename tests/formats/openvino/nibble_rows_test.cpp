#include "formats/nibble_rows.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace phiq {
namespace {

std::vector<std::byte> Bytes(const std::vector<unsigned>& values) {
  std::vector<std::byte> bytes;
  for (const unsigned value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

// Rows of three numbers: 1 2 3, 4 5 6, 7 8 9. The high nibbles that fill the rows are not 0.
const std::vector<std::byte> kRows = Bytes({0x21, 0x83, 0x54, 0x86, 0x87, 0x89});
const std::vector<std::byte> kFlat = Bytes({0x21, 0x43, 0x65, 0x87, 0x09});

TEST(NibbleRows, JoinWithoutPaddingAndEndWithZero) {
  std::vector<std::byte> flat(5, std::byte{0xFF});
  JoinNibbleRows(kRows, 3, 3, flat);
  EXPECT_EQ(flat, kFlat);
}

TEST(NibbleRows, AreCutAtEvenAndOddPlaces) {
  std::vector<std::byte> row(2, std::byte{0xFF});
  CutNibbleRow(kFlat, 0, 3, row);
  EXPECT_EQ(row, Bytes({0x21, 0x03}));
  CutNibbleRow(kFlat, 3, 3, row);
  EXPECT_EQ(row, Bytes({0x54, 0x06}));
  CutNibbleRow(kFlat, 6, 3, row);
  EXPECT_EQ(row, Bytes({0x87, 0x09}));
}

TEST(NibbleRows, OfOneNumberShareABytePairwise) {
  std::vector<std::byte> flat(2);
  JoinNibbleRows(Bytes({0x8A, 0x8B, 0x8C}), 3, 1, flat);
  EXPECT_EQ(flat, Bytes({0xBA, 0x0C}));
}

}  // namespace
}  // namespace phiq
