// Codes, scales and zero points that onnxruntime's own quantizers stored (the file is described in
// tools/goldens_onnx_kernels.py) against what its methods store here, byte for byte.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/encoding_testing.h"
#include "kernels/golden_reader.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

struct Case : GoldenCase {
  const Method* method;
};

Case ReadCase(GoldenReader& reader) {
  constexpr const Method* kMethods[] = {&kMlas, &kRtn, &kKQuant, &kGather};
  Case golden;
  golden.matrix = reader.Number();
  golden.method = kMethods[reader.Number()];
  const int bits = static_cast<int>(reader.Number());
  // Asked for either, k_quant stores zero points.
  const bool symmetric = reader.Number() != 0 && golden.method != &kKQuant;
  const std::size_t group_size = reader.Number();
  const ScaleType scale = reader.Number() != 0 ? ScaleType::kF16 : ScaleType::kF32;
  const bool is_signed = golden.method == &kGather && symmetric;
  golden.encoding = (is_signed ? SignedIntegers : Integers)(bits, symmetric, group_size, scale);
  for (Bytes& array : golden.arrays) array = reader.Array();
  return golden;
}

const Goldens<Case>& AllGoldens() {
  static const Goldens<Case> goldens =
      ReadGoldens(std::string(kTestData) + "/golden/onnx/kernels.bin", ReadCase);
  return goldens;
}

// What differs, row by row; empty when nothing does.
std::string Differences(const Case& golden, const GoldenMatrix& matrix) {
  const std::size_t n = matrix.n();
  std::string differences;
  for (std::size_t row = 0; row < matrix.n_rows; ++row) {
    const std::vector<Bytes> arrays =
        EncodedRow(golden.encoding, *golden.method, std::span(matrix.weights).subspan(row * n, n))
            .arrays;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      if (golden.arrays[i].size() != matrix.n_rows * arrays[i].size())
        return "array " + std::to_string(i) + " has another size";
      auto expected = std::span(golden.arrays[i]).subspan(row * arrays[i].size(), arrays[i].size());
      // "rtn" and "k_quant" fill a short last group with codes of their own, which nothing reads.
      const bool has_filling = i == 0 && (golden.method == &kRtn || golden.method == &kKQuant);
      if (has_filling)
        expected = expected.first(n * static_cast<std::size_t>(BitsOf(golden.encoding.code)) / 8);
      for (std::size_t b = 0; b < expected.size(); ++b) {
        if (expected[b] == arrays[i][b]) continue;
        const int ours = std::to_integer<int>(arrays[i][b]);
        const int theirs = std::to_integer<int>(expected[b]);
        differences += "row " + std::to_string(row) + ", array " + std::to_string(i) + ", byte " +
                       std::to_string(b) + ": " + std::to_string(ours) + ", onnxruntime has " +
                       std::to_string(theirs) + "\n";
        break;
      }
    }
  }
  return differences;
}

std::string CaseName(const Case& golden) {
  return "matrix " + std::to_string(golden.matrix) + ", " + std::string(golden.method->name) +
         ", " + EncodingName(golden.encoding) +
         (golden.encoding.scale == ScaleType::kF16 ? ", halves" : "");
}

class OnnxGolden : public testing::TestWithParam<const Method*> {};

TEST_P(OnnxGolden, HasTheBytesOfOnnxruntime) {
  int n_cases = 0;
  for (const Case& golden : AllGoldens().cases) {
    if (golden.method != GetParam()) continue;
    ++n_cases;
    EXPECT_EQ(Differences(golden, AllGoldens().MatrixOf(golden)), "") << CaseName(golden);
  }
  EXPECT_GE(n_cases, 20);
}

INSTANTIATE_TEST_SUITE_P(, OnnxGolden, testing::Values(&kMlas, &kRtn, &kKQuant, &kGather),
                         [](const auto& method) { return std::string(method.param->name); });

TEST(OnnxGoldenComparison, NoticesEachChangedArray) {
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
