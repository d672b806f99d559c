// Decoders give the same floats on every instruction set. (What those are, the golden tests say.)
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/simd/decode.h"
#include "simd_testing.h"

namespace phiq {
namespace {

class Decoders : public testing::OnEveryTarget {
 protected:
  // What `decode` fills n floats with, here and by the plainest code.
  template <typename Decode>
  void ExpectPlainFloats(std::size_t n, const Decode& decode) {
    std::vector<float> x(n + 8, 7.0F), expected(n + 8, 7.0F);  // a guard behind them
    decode(x.data());
    {
      const testing::ChosenTarget plain(HWY_SCALAR);
      decode(expected.data());
    }
    hwy::SetSupportedTargetsForTest(GetParam());
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]) && std::isnan(expected[i])) continue;
      ASSERT_EQ(std::bit_cast<std::uint32_t>(x[i]), std::bit_cast<std::uint32_t>(expected[i])) << i;
    }
  }
};

std::vector<std::uint8_t> RandomBytes(std::size_t n, std::mt19937& rng) {
  std::vector<std::uint8_t> bytes(n);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(rng());
  return bytes;
}

TEST_P(Decoders, OfBlocks) {
  std::mt19937 rng(1);
  for (const GgmlTypeInfo& info : GgmlTypes()) {
    if (info.block_size == 1) continue;
    SCOPED_TRACE(info.name);
    constexpr std::size_t kBlocks = 65;
    const std::vector<std::uint8_t> blocks = RandomBytes(kBlocks * info.block_bytes, rng);
    ExpectPlainFloats(kBlocks * info.block_size, [&](float* x) {
      simd::DecodeBlocks(info.type, std::as_bytes(std::span(blocks)).data(), kBlocks, x);
    });
  }
}

TEST_P(Decoders, OfGroups) {
  std::mt19937 rng(2);
  for (const Code code : {Code::kU4, Code::kU8, Code::kE2M1, Code::kE4M3}) {
    for (const std::size_t size : {16, 32, 100}) {
      for (const bool has_biases : {false, true}) {
        SCOPED_TRACE(static_cast<int>(code) * 1000 + static_cast<int>(size));
        const std::size_t n = 5 * size - 3;
        const std::vector<std::uint8_t> codes = RandomBytes(n, rng);
        const std::vector<std::uint8_t> zero_points = RandomBytes(5, rng);
        const std::vector<float> scales = testing::WeightsOfKind(testing::Kind::kHeavyTails, 5, 3);
        const std::vector<float> biases = testing::WeightsOfKind(testing::Kind::kGaussian, 5, 4);
        const simd::CodedGroups groups = {code, size, scales.data(), zero_points.data(),
                                          has_biases ? biases.data() : nullptr};
        ExpectPlainFloats(n, [&](float* x) { simd::DecodeCodes(codes.data(), n, groups, x); });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Decoders, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq
