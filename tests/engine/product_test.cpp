// The product bit for bit as its definition says, on every instruction set.
#include "engine/product.h"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <tuple>
#include <vector>

#include "testing/every_target.h"

namespace phiq::engine {
namespace {

std::vector<float> Random(std::mt19937& random, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  std::ranges::generate(values, [&] { return normal(random); });
  return values;
}

struct Shape {
  std::size_t n_rows, n_columns, depth;
};
// Around the tiles of every instruction set (2, 6 or 8 rows; 2 to 32 columns), the packed columns
// (256) and the panels (256).
constexpr Shape kShapes[] = {{1, 1, 1},     {2, 3, 7},    {7, 31, 5},    {8, 32, 64},
                             {9, 33, 255},  {6, 16, 256}, {13, 70, 257}, {50, 256, 300},
                             {5, 300, 770}, {3, 513, 3}};

// The definition in product.h, term by term.
std::vector<float> PlainProduct(const Shape& shape, const float* a, std::size_t a_stride,
                                const Factor& b, Into into, std::vector<float> c,
                                std::size_t c_stride) {
  for (std::size_t r = 0; r < shape.n_rows; ++r) {
    for (std::size_t o = 0; o < shape.n_columns; ++o) {
      float& out = c[r * c_stride + o];
      for (std::size_t panel = 0; panel < shape.depth; panel += 256) {
        float sum = 0;
        for (std::size_t k = panel; k < std::min<std::size_t>(panel + 256, shape.depth); ++k) {
          const float y = b.is_transposed ? b.data[o * b.stride + k] : b.data[k * b.stride + o];
          sum = std::fma(a[r * a_stride + k], y, sum);
        }
        if (into == Into::kSubtract) {
          out -= sum;
        } else {
          out = into == Into::kReplace && panel == 0 ? sum : out + sum;
        }
      }
    }
  }
  return c;
}

class ProductOnEveryTarget : public testing::OnEveryTarget {};

TEST_P(ProductOnEveryTarget, IsItsDefinitionBitForBit) {
  std::mt19937 random(1);
  for (const Shape& shape : kShapes) {
    for (const bool is_transposed : {false, true}) {
      for (const Into into : {Into::kReplace, Into::kAdd, Into::kSubtract}) {
        for (const std::size_t misaligned : {0U, 1U, 3U}) {
          const std::size_t a_stride = shape.depth + misaligned;
          const std::size_t b_stride = (is_transposed ? shape.depth : shape.n_columns) + misaligned;
          const std::size_t c_stride = shape.n_columns + misaligned;
          const std::vector<float> a = Random(random, shape.n_rows * a_stride + misaligned);
          const std::vector<float> b = Random(
              random, (is_transposed ? shape.n_columns : shape.depth) * b_stride + misaligned);
          const Factor factor = {b.data() + misaligned, b_stride, is_transposed};
          // With what lies between the rows, which stays.
          std::vector<float> c = Random(random, shape.n_rows * c_stride);
          const std::vector<float> expected =
              PlainProduct(shape, a.data() + misaligned, a_stride, factor, into, c, c_stride);
          c.insert(c.begin(), misaligned, 0.0F);
          Multiply(a.data() + misaligned, a_stride, factor, shape.n_rows, shape.n_columns,
                   shape.depth, into, c.data() + misaligned, c_stride);
          c.erase(c.begin(), c.begin() + static_cast<std::ptrdiff_t>(misaligned));
          ASSERT_EQ(c, expected) << shape.n_rows << " " << shape.n_columns << " " << shape.depth
                                 << (is_transposed ? " transposed " : " ") << static_cast<int>(into)
                                 << " " << misaligned;
        }
      }
    }
  }
}

// What a fused multiply-add makes of any three numbers: subnormal ones, sums that cancel, overflow,
// infinities and NaN. The third one comes as a first term, times 1.
TEST_P(ProductOnEveryTarget, RoundsEveryTermOnce) {
  std::mt19937 random(2);
  const auto any = [&] {
    const auto bits = static_cast<std::uint32_t>(random());
    // Every other one with an exponent near 0, so that products and sums meet.
    return std::bit_cast<float>(bits % 2 == 0 ? bits : (bits & 0x80FFFFFF) | 0x3F000000);
  };
  for (int i = 0; i < 100'000; ++i) {
    const float x[2] = {1.0F, any()};
    const float w[2] = {any(), any()};
    float y = 0;
    MultiplyByRows(x, 1, 2, w, 1, &y, 1);
    // 0 as the sum of the first panel's terms is +0 even for a product of -0.
    const float expected = std::fma(x[1], w[1], std::fma(x[0], w[0], 0.0F));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(y)) << x[1] << " * " << w[1] << " + " << w[0];
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y), std::bit_cast<std::uint32_t>(expected))
          << x[1] << " * " << w[1] << " + " << w[0];
    }
  }
}

// (1 - 2^-23) (1 + 2^-23) = 1 - 2^-46: a sum with it lies beside the middle between two floats by
// less than double can tell. Rounded to double first, it would be the middle, and go to the even
// one.
TEST_P(ProductOnEveryTarget, RoundsWhatIsBesideAMiddle) {
  struct Case {
    float a, b, c, expected;
  };
  for (const Case& k : {
           Case{0x1p-12F, 0x1p-12F, 1, 1},  // middles: to even
           Case{0x1p-12F, 0x1p-12F, 1 + 0x1p-23F, 1 + 0x1p-22F},
           Case{0x1p-12F - 0x1p-35F, 0x1p-12F + 0x1p-35F, 1 + 0x1p-23F, 1 + 0x1p-23F},  // below
           Case{0x1p-12F - 0x1p-35F, 0x1p-12F + 0x1p-35F, -1 - 0x1p-23F, -1 - 0x1p-23F},
       }) {
    for (const float sign : {1.0F, -1.0F}) {
      const float x[2] = {1.0F, k.a};
      const float w[2] = {sign * k.c, sign * k.b};
      float y = 0;
      MultiplyByRows(x, 1, 2, w, 1, &y, 1);
      EXPECT_EQ(y, sign * k.expected) << k.a << " * " << k.b << " + " << k.c;
    }
  }
}

TEST_P(ProductOnEveryTarget, IsCloseToEigensInDoublePrecision) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  std::mt19937 random(3);
  for (const Shape& shape : kShapes) {
    const std::vector<float> x = Random(random, shape.n_rows * shape.depth);
    const std::vector<float> w = Random(random, shape.n_columns * shape.depth);
    std::vector<float> y(shape.n_rows * shape.n_columns);
    MultiplyByRows(x.data(), shape.n_rows, shape.depth, w.data(), shape.n_columns, y.data(),
                   shape.n_columns);
    const auto as_matrix = [](const std::vector<float>& values, std::size_t rows) -> Matrix {
      using Map =
          Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
      return Map(values.data(), static_cast<Eigen::Index>(rows),
                 static_cast<Eigen::Index>(values.size() / rows))
          .cast<double>();
    };
    const Matrix a = as_matrix(x, shape.n_rows);
    const Matrix b = as_matrix(w, shape.n_columns).transpose();
    const Matrix difference = (as_matrix(y, shape.n_rows) - a * b).cwiseAbs();
    // A term takes part in at most 256 roundings of its panel and one a panel: product.h.
    const double roundings = 256.0 + static_cast<double>(shape.depth) / 256 + 1;
    const Matrix bound = roundings * 0x1p-24 * (a.cwiseAbs() * b.cwiseAbs());
    EXPECT_TRUE((difference.array() <= bound.array()).all()) << shape.depth;
  }
}

INSTANTIATE_TEST_SUITE_P(, ProductOnEveryTarget,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq::engine
