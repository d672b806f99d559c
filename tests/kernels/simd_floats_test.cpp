// Conversions and the search for the largest give the bits of base/half.h on every instruction set.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/simd/floats.h"
#include "simd_testing.h"

namespace phiq {
namespace {

using testing::Kind;

class FloatKernels : public testing::OnEveryTarget {};

std::vector<std::byte> Convert(FloatType from, const std::vector<std::byte>& x, FloatType to) {
  const std::size_t n = x.size() / FloatBytes(from);
  std::vector<std::byte> out(n * FloatBytes(to) + 64, std::byte{0xA5});
  simd::ConvertFloats({from, x.data()}, n, to, out.data());
  for (std::size_t i = n * FloatBytes(to); i < out.size(); ++i)
    EXPECT_EQ(out[i], std::byte{0xA5}) << "wrote behind the end";
  out.resize(n * FloatBytes(to));
  return out;
}

TEST_P(FloatKernels, WidenEveryPatternOfAHalf) {
  for (const FloatType from : {FloatType::kF16, FloatType::kBF16}) {
    std::vector<std::byte> halves(2 * 65536);
    for (std::size_t i = 0; i < 65536; ++i)
      StoreLe(static_cast<std::uint16_t>(i), std::span(halves), 2 * i);
    const std::vector<std::byte> floats = Convert(from, halves, FloatType::kF32);
    for (std::size_t i = 0; i < 65536; ++i) {
      const float expected = LoadFloat(from, halves, i);
      ASSERT_EQ(LoadLe<std::uint32_t>(floats, 4 * i), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

// Both sides of all borders between halves, and the ties on them.
TEST_P(FloatKernels, RoundAsTheFormulas) {
  std::vector<std::byte> floats;
  for (std::uint32_t high = 0; high < (1U << 19); ++high) {
    for (const std::uint32_t low : {0U, 0xFFFU, 0x1000U, 0x1001U}) {
      const float v = std::bit_cast<float>(high << 13 | low);
      if (!std::isfinite(v)) continue;
      floats.resize(floats.size() + 4);
      StoreLe(v, std::span(floats), floats.size() - 4);
    }
  }
  for (const FloatType to : {FloatType::kF16, FloatType::kBF16}) {
    const std::vector<std::byte> halves = Convert(FloatType::kF32, floats, to);
    for (std::size_t i = 0; i < halves.size() / 2; ++i) {
      std::byte expected[2];
      const float v = LoadLe<float>(floats, 4 * i);
      StoreFloat(to, v, expected, 0);
      ASSERT_EQ(std::memcmp(&halves[2 * i], expected, 2), 0) << v;
    }
  }
}

TEST_P(FloatKernels, ConvertEveryKindFromEveryType) {
  for (int k = 0; k <= static_cast<int>(Kind::kLast); ++k) {
    for (const FloatType from : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
      for (const std::size_t n : {0, 1, 7, 8, 15, 17, 333}) {
        const std::vector<std::byte> x =
            testing::Stored(from, testing::WeightsOfKind(static_cast<Kind>(k), n, 7));
        for (const FloatType to : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
          std::vector<std::byte> expected(n * FloatBytes(to));
          for (std::size_t i = 0; i < n; ++i) StoreFloat(to, LoadFloat(from, x, i), expected, i);
          ASSERT_EQ(Convert(from, x, to), expected)
              << n << " of kind " << k << ", " << testing::NameOf(from) << " to "
              << testing::NameOf(to);
        }
      }
    }
  }
}

TEST_P(FloatKernels, FindTheLargestWhereverItIs) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    const std::size_t n = 150;
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<float> x = testing::WeightsOfKind(Kind::kGaussian, n, 3);
      x[i] = i % 2 == 0 ? -3.0F : 3.0F;
      const auto largest = [&] {
        std::vector<std::byte> bytes(n * FloatBytes(type));
        for (std::size_t j = 0; j < n; ++j) StoreFloat(type, x[j], bytes, j);
        return simd::LargestMagnitude({type, bytes.data()}, n);
      };
      ASSERT_EQ(largest(), 3.0F) << i;
      x[(i + 40) % n] = -inf;
      ASSERT_EQ(largest(), inf) << i;
      x[(i + 90) % n] = -nan;
      ASSERT_TRUE(std::isnan(largest())) << i;
    }
  }
  EXPECT_EQ(simd::LargestMagnitude(Weights(), 0), 0.0F);
}

INSTANTIATE_TEST_SUITE_P(, FloatKernels, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq
