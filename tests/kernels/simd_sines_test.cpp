// Sines and cosines of many angles are those of single ones on every instruction set.
#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <vector>

#include "base/portable_math.h"
#include "kernels/simd/sines.h"
#include "simd_testing.h"

namespace phiq {
namespace {

class SineKernels : public testing::OnEveryTarget {};

TEST_P(SineKernels, GiveWhatSingleAnglesGive) {
  std::mt19937 rng(1);
  std::uniform_real_distribution<float> exponents(-30.0F, 20.0F);
  for (const std::size_t n : {0, 1, 3, 48, 20001}) {
    std::vector<float> angles(n), sines(n), cosines(n);
    for (float& angle : angles) {
      const bool is_negative = (rng() & 1U) != 0;
      angle = (is_negative ? -1.0F : 1.0F) * std::exp2(exponents(rng));
    }
    if (n > 2) angles[2] = 0.0F;
    simd::SinesOf(angles.data(), n, sines.data());
    simd::CosinesOf(angles.data(), n, cosines.data());
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(sines[i]),
                std::bit_cast<std::uint32_t>(static_cast<float>(PortableSin(angles[i]))))
          << angles[i];
      ASSERT_EQ(std::bit_cast<std::uint32_t>(cosines[i]),
                std::bit_cast<std::uint32_t>(static_cast<float>(PortableCos(angles[i]))))
          << angles[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, SineKernels, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq
