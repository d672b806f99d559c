// Codes, scales and zero points that NNCF stored (the file is described in
// tools/goldens_openvino.py) against what kNncf stores, byte for byte.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/encoding_testing.h"
#include "kernels/golden_reader.h"
#include "kernels/nncf_error.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

using Case = GoldenCase;

Case ReadCase(GoldenReader& reader) {
  Case golden;
  golden.matrix = reader.Number();
  const int bits = static_cast<int>(reader.Number());
  const bool symmetric = reader.Number() != 0;
  const std::size_t group_size = reader.Number();
  golden.encoding =
      (symmetric ? SignedIntegers : Integers)(bits, symmetric, group_size, ScaleType::kF16);
  for (Bytes& array : golden.arrays) array = reader.Array();
  return golden;
}

const Goldens<Case>& AllGoldens() {
  static const Goldens<Case> goldens =
      ReadGoldens(std::string(kTestData) + "/golden/openvino/kernels.bin", ReadCase);
  return goldens;
}

// OpenVINO packs 4-bit arrays flat over all rows: as one code a byte they can be cut anywhere.
Bytes OneCodeAByte(int bits, std::span<const std::byte> array, std::size_t n) {
  if (bits == 8) return {array.begin(), array.end()};
  Bytes codes(n);
  UnpackBits(4, array.first((n + 1) / 2), {reinterpret_cast<std::uint8_t*>(codes.data()), n});
  return codes;
}

// What differs, row by row; empty when nothing does.
std::string Differences(const Case& golden, const GoldenMatrix& matrix) {
  const int bits = BitsOf(golden.encoding.code);
  const std::size_t n = matrix.n();
  const std::size_t n_groups = GroupCount(golden.encoding, n);
  const std::array<std::size_t, kMaxArrays> row_items = {n, n_groups, n_groups};
  std::string differences;
  for (std::size_t i = 0; i < kMaxArrays; ++i) {
    const bool is_scales = i == 1;
    const std::size_t n_items = matrix.n_rows * row_items[i];
    const bool is_there = i < ArrayCount(golden.encoding);
    if (is_there == golden.arrays[i].empty()) return "another number of arrays";
    if (!is_there) continue;
    const Bytes expected =
        is_scales ? golden.arrays[i] : OneCodeAByte(bits, golden.arrays[i], n_items);
    const std::size_t row_bytes = row_items[i] * (is_scales ? 2 : 1);
    if (expected.size() != matrix.n_rows * row_bytes) return "an array has another size";
    for (std::size_t row = 0; row < matrix.n_rows; ++row) {
      const EncodedRow encoded(golden.encoding, kNncf,
                               std::span(matrix.weights).subspan(row * n, n));
      const Bytes stored =
          is_scales ? encoded.arrays[i] : OneCodeAByte(bits, encoded.arrays[i], row_items[i]);
      for (std::size_t b = 0; b < row_bytes; ++b) {
        if (expected[row * row_bytes + b] == stored[b]) continue;
        differences += "row " + std::to_string(row) + ", array " + std::to_string(i) + ", item " +
                       std::to_string(b) + ": " + std::to_string(std::to_integer<int>(stored[b])) +
                       ", NNCF has " +
                       std::to_string(std::to_integer<int>(expected[row * row_bytes + b])) + "\n";
        break;
      }
    }
  }
  return differences;
}

std::string CaseName(const Case& golden) {
  return "matrix " + std::to_string(golden.matrix) + ", " + EncodingName(golden.encoding);
}

TEST(NncfGolden, HasTheBytesOfNncf) {
  EXPECT_EQ(AllGoldens().cases.size(), 24U);
  for (const Case& golden : AllGoldens().cases)
    EXPECT_EQ(Differences(golden, AllGoldens().MatrixOf(golden)), "") << CaseName(golden);
}

TEST(NncfGolden, ComparisonNoticesEachChangedArray) {
  for (const std::size_t array : {0, 1, 2}) {
    for (Case golden : AllGoldens().cases) {
      if (golden.arrays[array].empty()) continue;
      golden.arrays[array][0] ^= std::byte{1};
      ASSERT_NE(Differences(golden, AllGoldens().MatrixOf(golden)), "") << CaseName(golden);
    }
  }
}

// By hand. [-1, 2.825] has 255 steps of 0.015, and 0 is code 66.67, so 67. Ranges always hold 0:
// 1 to 2.55 becomes 255 steps from 0 on.
TEST(NncfGroups, AreWhatTheFormulasSay) {
  Groups groups =
      GroupsOf(Integers(8, kAsymmetric, 0), kNncf, std::vector{-1.0F, 0.0F, 2.825F, 0.75F});
  EXPECT_FLOAT_EQ(groups.scales[0], 0.015F);
  EXPECT_EQ(groups.zero_points[0], 67);
  EXPECT_EQ(groups.codes, (std::vector<std::uint8_t>{0, 67, 255, 117}));
  groups = GroupsOf(Integers(8, kAsymmetric, 0), kNncf, std::vector{1.0F, 2.55F, 1.5F, 2.0F});
  EXPECT_FLOAT_EQ(groups.scales[0], 0.01F);
  EXPECT_EQ(groups.zero_points[0], 0);
  EXPECT_EQ(groups.codes, (std::vector<std::uint8_t>{100, 255, 150, 200}));

  // The extreme is the lowest code, whatever its sign; the other end is cut. Ties go to even.
  groups = GroupsOf(Integers(4, kSymmetric, 0), kNncf, std::vector{-4.0F, 4.0F, 0.75F, 0.25F});
  EXPECT_EQ(groups.scales[0], 0.5F);
  EXPECT_EQ(groups.codes, (std::vector<std::uint8_t>{0, 15, 10, 8}));
  groups = GroupsOf(Integers(4, kSymmetric, 0), kNncf, std::vector{-1.0F, 4.0F, 0.75F, 0.25F});
  EXPECT_EQ(groups.scales[0], -0.5F);
  EXPECT_EQ(groups.codes, (std::vector<std::uint8_t>{10, 0, 6, 8}));

  // Zeros have the smallest scale, the one of 2^-23.
  groups = GroupsOf(Integers(4, kSymmetric, 0), kNncf, std::vector<float>(4));
  EXPECT_EQ(groups.scales[0], 0x1p-23F);
  EXPECT_EQ(groups.codes, (std::vector<std::uint8_t>{8, 8, 8, 8}));
  groups = GroupsOf(Integers(8, kAsymmetric, 0), kNncf, std::vector<float>(4));
  EXPECT_EQ(groups.scales[0], 0x1p-23F);
  EXPECT_EQ(groups.zero_points[0], 0);
  EXPECT_EQ(groups.codes, (std::vector<std::uint8_t>{0, 0, 0, 0}));
}

// 511.9 / 128 is no half, and 511 weights are enough for some to lie between the two grids.
TEST(NncfGroups, UseTheScaleBeforeItBecomesAHalf) {
  std::vector<float> x(512);
  for (std::size_t c = 0; c < x.size(); ++c) x[c] = static_cast<float>(c) - 511.9F;
  const Groups floats = GroupsOf(Integers(8, kSymmetric, 0, ScaleType::kF32), kNncf, x);
  const Groups halves = GroupsOf(Integers(8, kSymmetric, 0, ScaleType::kF16), kNncf, x);
  EXPECT_NE(floats.scales, halves.scales);
  EXPECT_EQ(floats.codes, halves.codes);
}

TEST(Int8RowErrorTest, IsTheMeanSquareOfWhatDecodes) {
  std::vector<std::uint8_t> codes(3);
  // 255 steps of 1: 100.25 and 3.5 are off by 0.25 and 0.5.
  EXPECT_EQ(Int8RowError(std::vector<float>{255.0F, 100.25F, 3.5F}, codes),
            static_cast<float>((0.0625 + 0.25) / 3));
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{255, 100, 4}));
  for (const std::size_t n : {1, 7, 8, 9, 16, 257}) {
    const std::vector<float> x = GaussianWeights(n, 3);
    codes.resize(n);
    const std::vector<float> y = GroupsOf(Integers(8, kAsymmetric, 0), kNncf, x).decoded;
    double sum = 0;
    for (std::size_t c = 0; c < n; ++c) sum += (double{x[c]} - y[c]) * (double{x[c]} - y[c]);
    // The differences are rounded to float, by 2^-24 of weights that are 200 times as large.
    EXPECT_NEAR(Int8RowError(x, codes), sum / static_cast<double>(n),
                1e-4 * sum / static_cast<double>(n))
        << n;
  }
}

}  // namespace
}  // namespace phiq
