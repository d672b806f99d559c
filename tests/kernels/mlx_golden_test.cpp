// Codes, scales and biases that MLX stored (the file is described in tools/goldens_mlx_kernels.py)
// against what MlxMethod stores, byte for byte, and the weights that MLX decodes against ours.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/sha256.h"
#include "kernels/encoding_testing.h"
#include "kernels/golden_reader.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

struct Case : GoldenCase {
  FloatType weights;
  std::string decoded_sha256;
};

Case ReadCase(GoldenReader& reader) {
  constexpr GroupEncoding kFloats[] = {kMxfp4, kMxfp8, kNvfp4};
  constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kF16, FloatType::kBF16};
  Case golden;
  golden.matrix = reader.Number();
  const std::uint32_t mode = reader.Number();  // 0: affine
  const int bits = static_cast<int>(reader.Number());
  const std::size_t group_size = reader.Number();
  golden.weights = kTypes[reader.Number()];
  golden.encoding = mode == 0 ? Affine(bits, group_size, golden.weights) : kFloats[mode - 1];
  for (Bytes& array : golden.arrays) array = reader.Array();
  const Bytes digits = reader.Array();
  golden.decoded_sha256.assign(reinterpret_cast<const char*>(digits.data()), digits.size());
  return golden;
}

const Goldens<Case>& AllGoldens() {
  static const Goldens<Case> goldens =
      ReadGoldens(std::string(kTestData) + "/golden/mlx/kernels.bin", ReadCase);
  return goldens;
}

// What differs, row by row; empty when nothing does.
std::string Differences(const Case& golden, const GoldenMatrix& matrix) {
  const std::size_t n = matrix.n();
  std::string differences;
  for (std::size_t i = 0; i < kMaxArrays; ++i) {
    const bool is_there = i < ArrayCount(golden.encoding);
    const std::size_t row_bytes = is_there ? ArrayRowBytes(golden.encoding, i, n) : 0;
    if (golden.arrays[i].size() != matrix.n_rows * row_bytes) return "an array has another size";
  }
  for (std::size_t row = 0; row < matrix.n_rows; ++row) {
    const EncodedRow encoded(golden.encoding, MlxMethod(MlxRounding::kCpu, golden.weights),
                             std::span(matrix.weights).subspan(row * n, n));
    for (std::size_t i = 0; i < encoded.arrays.size(); ++i) {
      const Bytes& stored = encoded.arrays[i];
      for (std::size_t b = 0; b < stored.size(); ++b) {
        const std::byte expected = golden.arrays[i][row * stored.size() + b];
        if (expected == stored[b]) continue;
        differences += "row " + std::to_string(row) + ", array " + std::to_string(i) + ", byte " +
                       std::to_string(b) + ": " + std::to_string(std::to_integer<int>(stored[b])) +
                       ", MLX has " + std::to_string(std::to_integer<int>(expected)) + "\n";
        break;
      }
    }
  }
  return differences;
}

// The hash of the float32 weights that RowCodec makes of MLX's arrays.
std::string DecodedSha256(const Case& golden, const GoldenMatrix& matrix) {
  const std::size_t n = matrix.n();
  std::vector<float> x(matrix.weights.size());
  RowCodec codec;
  for (std::size_t row = 0; row < matrix.n_rows; ++row) {
    std::vector<std::span<const std::byte>> arrays;
    for (std::size_t i = 0; i < ArrayCount(golden.encoding); ++i) {
      const std::size_t row_bytes = ArrayRowBytes(golden.encoding, i, n);
      arrays.push_back(std::span(golden.arrays[i]).subspan(row * row_bytes, row_bytes));
    }
    codec.Decode(golden.encoding, arrays, std::span(x).subspan(row * n, n));
  }
  return Sha256Hex({reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float)});
}

std::string CaseName(const Case& golden) {
  return "matrix " + std::to_string(golden.matrix) + ", " +
         TestName(Recipe{golden.encoding, &MlxMethod(MlxRounding::kCpu, golden.weights)});
}

TEST(MlxGolden, HasTheBytesOfMlx) {
  // Affine: 18 widths and groups of 3 types, 2 of the wide matrix; the other modes.
  EXPECT_EQ(AllGoldens().cases.size(), 18U * 8 + 3 * 3 + 2 * 2);
  for (const Case& golden : AllGoldens().cases)
    EXPECT_EQ(Differences(golden, AllGoldens().MatrixOf(golden)), "") << CaseName(golden);
}

TEST(MlxGolden, DecodesToTheWeightsOfMlx) {
  for (const Case& golden : AllGoldens().cases) {
    EXPECT_EQ(DecodedSha256(golden, AllGoldens().MatrixOf(golden)), golden.decoded_sha256)
        << CaseName(golden);
  }
}

TEST(MlxGolden, ComparisonNoticesEachChangedArray) {
  for (const std::size_t array : {0, 1, 2}) {
    for (Case golden : AllGoldens().cases) {
      if (golden.arrays[array].empty()) continue;
      golden.arrays[array][0] ^= std::byte{1};
      ASSERT_NE(Differences(golden, AllGoldens().MatrixOf(golden)), "") << CaseName(golden);
    }
  }
}

}  // namespace
}  // namespace phiq
