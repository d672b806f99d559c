// Decoding against formulas written once more from the layout tables of docs/quantization.md, one
// weight at a time with absolute byte offsets: nothing here is shared with the decoders.
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "kernels/ggml_testing.h"

namespace phiq {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr int kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};

unsigned Word(Bytes b, std::size_t at) { return b[at] | static_cast<unsigned>(b[at + 1]) << 8; }

// By the definition of binary16, in double.
float HalfAt(Bytes b, std::size_t at) {
  const unsigned h = Word(b, at);
  const int exponent = static_cast<int>(h >> 10 & 31);
  const double fraction = h & 1023;
  const double sign = h >> 15 != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return fraction == 0 ? static_cast<float>(sign) * INFINITY : std::nanf("");
  }
  return static_cast<float>(sign * (exponent == 0 ? std::ldexp(fraction, -24)
                                                  : std::ldexp(1024 + fraction, exponent - 25)));
}

int NibbleAt(Bytes b, std::size_t at, std::size_t e) {
  return e < 16 ? b[at + e] % 16 : b[at + e - 16] / 16;
}

int BitAt(Bytes b, std::size_t at, std::size_t bit) { return b[at + bit / 8] >> bit % 8 & 1; }

float Times(float scale, int code) { return scale * static_cast<float>(code); }

// The 6-bit scale (which = 0) or min (which = 1) of sub-block j, spelled out by byte.
int SixBits(Bytes s, std::size_t j, std::size_t which) {
  const int first = s[4 * which + j % 4];
  if (j < 4) return first % 64;
  const int low = which == 0 ? s[8 + j - 4] % 16 : s[8 + j - 4] / 16;
  return low + 16 * (first / 64);
}

int SixBitsQ3(Bytes s, std::size_t j) {
  const int low = j < 8 ? s[j] % 16 : s[j - 8] / 16;
  const int high = s[8 + j % 4] >> 2 * (j / 4) & 3;
  return low + 16 * high - 32;
}

// Weight e of the block b.
float Weight(GgmlType type, Bytes b, std::size_t e) {
  const std::size_t half = e / 128;
  const std::size_t r = e % 128;
  switch (type) {
    case GgmlType::kF32:
      return std::bit_cast<float>(Word(b, 0) | Word(b, 2) << 16);
    case GgmlType::kF16:
      return HalfAt(b, 0);
    case GgmlType::kBF16:
      return std::bit_cast<float>(Word(b, 0) << 16);
    case GgmlType::kQ8_0:
      return Times(HalfAt(b, 0), static_cast<std::int8_t>(b[2 + e]));
    case GgmlType::kQ4_0:
      return Times(HalfAt(b, 0), NibbleAt(b, 2, e) - 8);
    case GgmlType::kQ4_1:
      return Times(HalfAt(b, 0), NibbleAt(b, 4, e)) + HalfAt(b, 2);
    case GgmlType::kQ5_0:
      return Times(HalfAt(b, 0), NibbleAt(b, 6, e) + 16 * BitAt(b, 2, e) - 16);
    case GgmlType::kQ5_1:
      return Times(HalfAt(b, 0), NibbleAt(b, 8, e) + 16 * BitAt(b, 4, e)) + HalfAt(b, 2);
    case GgmlType::kQ2_K: {
      const int code = b[16 + 32 * half + r % 32] >> 2 * (r / 32) & 3;
      return Times(Times(HalfAt(b, 80), b[e / 16] % 16), code) -
             Times(HalfAt(b, 82), b[e / 16] / 16);
    }
    case GgmlType::kQ3_K: {
      const int low = b[32 + 32 * half + r % 32] >> 2 * (r / 32) & 3;
      const int high = BitAt(b.subspan(e % 32), 0, e / 32);
      return Times(Times(HalfAt(b, 108), SixBitsQ3(b.subspan(96), e / 16)),
                   low - (high == 1 ? 0 : 4));
    }
    case GgmlType::kQ4_K: {
      const int code = b[16 + 32 * (e / 64) + e % 32] >> 4 * (e / 32 % 2) & 15;
      return Times(Times(HalfAt(b, 0), SixBits(b.subspan(4), e / 32, 0)), code) -
             Times(HalfAt(b, 2), SixBits(b.subspan(4), e / 32, 1));
    }
    case GgmlType::kQ5_K: {
      const int low = b[48 + 32 * (e / 64) + e % 32] >> 4 * (e / 32 % 2) & 15;
      const int code = low + 16 * BitAt(b.subspan(16 + e % 32), 0, e / 32);
      return Times(Times(HalfAt(b, 0), SixBits(b.subspan(4), e / 32, 0)), code) -
             Times(HalfAt(b, 2), SixBits(b.subspan(4), e / 32, 1));
    }
    case GgmlType::kQ6_K: {
      const std::size_t k = r / 32;
      const int low = b[64 * half + r % 32 + 32 * (k % 2)] >> 4 * (k / 2) & 15;
      const int high = b[128 + 32 * half + r % 32] >> 2 * k & 3;
      return Times(Times(HalfAt(b, 208), static_cast<std::int8_t>(b[192 + e / 16])),
                   low + 16 * high - 32);
    }
    case GgmlType::kIQ4_NL:
      return Times(HalfAt(b, 0), kTable[NibbleAt(b, 2, e)]);
    case GgmlType::kIQ4_XS: {
      const std::size_t k = e / 32;
      const int low = NibbleAt(b, 4 + k / 2, k % 2 == 0 ? 0 : 16);
      const int high = static_cast<int>(Word(b, 2) >> 2 * k & 3);
      return Times(Times(HalfAt(b, 0), low + 16 * high - 32),
                   kTable[NibbleAt(b, 8 + 16 * k, e % 32)]);
    }
  }
  return 0.0F;
}

class GgmlLayout : public testing::TestWithParam<GgmlTypeInfo> {};

TEST_P(GgmlLayout, DecodesRandomBytesBitForBit) {
  const GgmlTypeInfo& info = GetParam();
  const std::size_t n_blocks = 1000;
  std::mt19937 rng(5);
  std::vector<std::uint8_t> bytes(n_blocks * info.block_bytes);
  for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(rng());
  const std::vector<float> x = Dequantize(info.type, std::as_bytes(std::span(bytes)));
  ASSERT_EQ(x.size(), n_blocks * info.block_size);
  std::size_t n_finite = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t block = i / info.block_size;
    const float expected =
        Weight(info.type, Bytes(bytes).subspan(block * info.block_bytes, info.block_bytes),
               i % info.block_size);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(x[i])) << "weight " << i;  // its payload is free
      continue;
    }
    ++n_finite;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(x[i]), std::bit_cast<std::uint32_t>(expected))
        << "weight " << i << ": " << x[i] << ", expected " << expected;
  }
  EXPECT_GT(n_finite, x.size() / 2);
}

INSTANTIATE_TEST_SUITE_P(EveryType, GgmlLayout, testing::ValuesIn(GgmlTypes()),
                         [](const auto& test) { return TestName(test.param.type); });

}  // namespace
}  // namespace phiq
