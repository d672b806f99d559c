// The vector kernels of GGUF's blocks write the plain loops' bytes on every instruction set.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/ggml_plain.h"
#include "kernels/simd/ggml.h"
#include "simd_testing.h"

namespace phiq {
namespace {

using testing::Kind;

using Encoder = void (*)(const Weights& x, std::size_t n_blocks, std::byte* out);

class GgmlKernels : public testing::OnEveryTarget {
 protected:
  // 37: neither whole batches nor half of one. Every kind of weights from every type.
  template <typename Block>
  void ExpectPlainBytes(Encoder encode) {
    for (int k = 0; k <= static_cast<int>(Kind::kLast); ++k)
      for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16})
        for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{37}})
          ExpectPlainBytes<Block>(encode, static_cast<Kind>(k), type, n_blocks);
  }

 private:
  template <typename Block>
  void ExpectPlainBytes(Encoder encode, Kind kind, FloatType type, std::size_t n_blocks) {
    constexpr std::size_t kScale = 256 / Block::kSize;  // as many weights of each type
    const std::size_t n = n_blocks * kScale;
    const std::vector<std::byte> stored = testing::Stored(
        type, testing::WeightsOfKind(kind, n * Block::kSize, static_cast<std::uint32_t>(n)));
    const std::vector<float> floats = testing::Floats(type, stored);
    std::vector<std::byte> expected(n * sizeof(Block));
    EncodePlain<Block>(floats, expected);
    // Memory that is not zero, with a guard behind it.
    std::vector<std::byte> actual(expected.size() + 64, std::byte{0xA5});
    encode({type, stored.data()}, n, actual.data());
    for (std::size_t b = 0; b < n; ++b) {
      ASSERT_EQ(
          std::memcmp(&actual[b * sizeof(Block)], &expected[b * sizeof(Block)], sizeof(Block)), 0)
          << "kind " << static_cast<int>(kind) << " of " << testing::NameOf(type) << ", block " << b
          << " of " << n;
    }
    for (std::size_t i = expected.size(); i < actual.size(); ++i)
      ASSERT_EQ(actual[i], std::byte{0xA5}) << "wrote behind the last block";
  }
};

TEST_P(GgmlKernels, WriteThePlainLoopsQ2K) { ExpectPlainBytes<BlockQ2_K>(simd::EncodeQ2_K); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ3K) { ExpectPlainBytes<BlockQ3_K>(simd::EncodeQ3_K); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ4K) { ExpectPlainBytes<BlockQ4_K>(simd::EncodeQ4_K); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ5K) { ExpectPlainBytes<BlockQ5_K>(simd::EncodeQ5_K); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ6K) { ExpectPlainBytes<BlockQ6_K>(simd::EncodeQ6_K); }
TEST_P(GgmlKernels, WriteThePlainLoopsIQ4NL) { ExpectPlainBytes<BlockIQ4_NL>(simd::EncodeIQ4_NL); }
TEST_P(GgmlKernels, WriteThePlainLoopsIQ4XS) { ExpectPlainBytes<BlockIQ4_XS>(simd::EncodeIQ4_XS); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ40) { ExpectPlainBytes<BlockQ4_0>(simd::EncodeQ4_0); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ41) { ExpectPlainBytes<BlockQ4_1>(simd::EncodeQ4_1); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ50) { ExpectPlainBytes<BlockQ5_0>(simd::EncodeQ5_0); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ51) { ExpectPlainBytes<BlockQ5_1>(simd::EncodeQ5_1); }
TEST_P(GgmlKernels, WriteThePlainLoopsQ80) { ExpectPlainBytes<BlockQ8_0>(simd::EncodeQ8_0); }

INSTANTIATE_TEST_SUITE_P(, GgmlKernels, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq
