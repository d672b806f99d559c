// Groups whose codes and scales are known. Those of MlxRounding::kCpu were printed by mlx 0.32.4;
// those of kMetal come from a transcription of its kernels into numpy.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/endian.h"
#include "base/half.h"
#include "kernels/encoding_testing.h"
#include "kernels/ggml_testing.h"
#include "kernels/small_floats.h"
#include "phiq/quantize.h"

namespace phiq {
namespace {

using testing::Each;
using testing::ElementsAre;
using enum MlxRounding;

Recipe AffineRecipe(int bits, std::size_t group_size, FloatType type, MlxRounding rounding) {
  return {Affine(bits, group_size, type), &MlxMethod(rounding, type)};
}
Recipe FloatsRecipe(const GroupEncoding& floats, FloatType type, MlxRounding rounding) {
  return {floats, &MlxMethod(rounding, type)};
}

// 64 values of a linear congruential generator in +-0.05, moved by `offset` and rounded to BF16.
std::vector<float> UniformWeights(float offset) {
  std::vector<float> x(64);
  std::uint32_t state = 12345;
  for (float& v : x) {
    state = state * 1664525U + 1013904223U;
    const float uniform = static_cast<float>(state >> 8) * 0x1p-24F;
    v = (uniform - 0.5F) * 0.1F;
    if (offset != 0.0F) v += offset;
    v = Bf16ToFloat(FloatToBf16(v));
  }
  return x;
}

std::string Codes(const EncodedRow& row) { return ToHex(row.arrays[0]); }
std::string Scales(const EncodedRow& row) { return ToHex(row.arrays[1]); }
// Most significant digit first, as one writes numbers.
std::string Bits(std::uint32_t bits) { return fmt::format("{:08x}", bits); }
std::string Scale(const EncodedRow& row) { return Bits(LoadLe<std::uint32_t>(row.arrays[1])); }
std::string Bias(const EncodedRow& row) { return Bits(LoadLe<std::uint32_t>(row.arrays[2])); }

struct AffineGroup {
  float offset;
  int bits;
  const char* scale;       // float32
  const char* bf16_scale;  // as stored, so the low byte first
  const char* bias;
  const char* codes;
};
constexpr AffineGroup kAffineGroups[] = {
    {0, 2, "bcca0000", "cabc", "3d4a0000", "6fac769c22a4dbf72ef7584e76e626d2"},
    {0, 3, "bc4a0000", "4abc", "3d4a0000", "3f9793d3858b458195eefef8f470b9e0b6475435d11cd3e8"},
    {0, 4, "bbca0000", "cabb", "3d4a0000",
     "ff67e178364ff0951a1a50899be52ffbb9173fbb7155e641495b47d959281ae4"},
    {0, 5, "bb4a0000", "4abb", "3d4a0000",
     "ff3f363a74ed7c14bc8a33cc00d68457aadd8bfdf1baf08fb5c1adc5b63831d5e490d4513d4205e2"},
    {0, 6, "baca0000", "caba", "3d4a0000",
     "ffdf5d450e769ae343023f8da7600e4055826e59d97bc2fea2bb09bfd3b2435759984d3c63b44adb43ce63f52127"
     "01dd"},
    {0, 8, "b9ca0000", "cab9", "3d4a0000",
     "fcfd755d16e581736736f74107ef4c8a9b09980b00569480b79452d9ea25b1ff8ab66d08fd37b3af0a74555760d8"
     "103b8b45ac496c3c8fcc8b537b1f9c1241dd"},
    // Scales that are no BF16.
    {-0.015F, 2, "3d040000", "043d", "bd840000", "a0a38a63dd9b251ce558abb2995ae92d"},
    {-0.015F, 3, "3c533333", "533c", "bd840000",
     "00fb9035fc94fbfe8e5a930b140f4b67dbdcf44a4f2cbf3b"},
    {-0.015F, 4, "3bd33333", "d33b", "bd840000",
     "00a82e88c9b11f7bf6f6af86642ad10547f9c0558faa2aceb7b5c937a7d8e62b"},
    {-0.015F, 5, "3b533333", "533b", "bd840000",
     "0044cac78b1287eb8575ccb3fe697ba9d53274022e490f70523d563a4bc7ce2a2baf33aec2cdfa25"},
    {-0.015F, 6, "3ace0c7d", "ce3a", "bd840000",
     "4120a2faf18da62cbc3dc176599ff1bfba7dd2b626853d019d44f6413c51bca8a6a7b2c39d5bb524cc359d1aded9"
     "fe26"},
    {-0.015F, 8, "39cb90f7", "cc39", "bd840000",
     "04038aa2e91c7e8c98c809bef712b37565f667f4ffaa6c7f486cad2615da4f00764a92f603c74d51f58baaa89f28"
     "eec474b954b693c3713474ac85df63edbe23"},
};

TEST(MlxAffine, HasTheBytesOfKnownGroups) {
  for (const AffineGroup& group : kAffineGroups) {
    for (const MlxRounding rounding : {kCpu, kMetal}) {
      const EncodedRow floats(AffineRecipe(group.bits, 64, FloatType::kF32, rounding),
                              UniformWeights(group.offset));
      EXPECT_EQ(Codes(floats), group.codes) << group.bits;
      EXPECT_EQ(Scale(floats), group.scale) << group.bits;
      EXPECT_EQ(Bias(floats), group.bias) << group.bits;
      // The weights are exact in BF16.
      const EncodedRow bf16(AffineRecipe(group.bits, 64, FloatType::kBF16, rounding),
                            UniformWeights(group.offset));
      EXPECT_EQ(Codes(bf16), group.codes) << group.bits;
      EXPECT_EQ(Scales(bf16), group.bf16_scale) << group.bits;
    }
  }
  const EncodedRow halves(AffineRecipe(4, 64, FloatType::kF16, kCpu), UniformWeights(-0.015F));
  EXPECT_EQ(Scales(halves), "9a1e");
  EXPECT_EQ(ToHex(halves.arrays[2]), "20ac");
}

std::vector<int> UnpackedCodes(std::span<const std::byte> packed) {
  std::vector<int> codes;
  for (const std::byte b : packed) {
    codes.push_back(std::to_integer<int>(b & std::byte{15}));
    codes.push_back(std::to_integer<int>(b >> 4));
  }
  return codes;
}

TEST(MlxAffine, RoundsTiesAsTheBackEndDoes) {
  std::vector<float> x(32);
  for (std::size_t i = 0; i < 32; ++i)
    x[i] = (static_cast<float>((7 * i + 3) % 32) - 16.0F) / 16.0F;
  const EncodedRow cpu(AffineRecipe(4, 32, FloatType::kF32, kCpu), x);
  EXPECT_THAT(UnpackedCodes(cpu.arrays[0]),
              ElementsAre(2, 5, 8, 12, 15, 3, 6, 10, 14, 1, 4, 8, 12, 15, 2, 6, 10, 13, 0, 4, 8, 11,
                          14, 2, 6, 9, 12, 0, 4, 7, 10, 14));
  const EncodedRow metal(AffineRecipe(4, 32, FloatType::kF32, kMetal), x);
  EXPECT_THAT(UnpackedCodes(metal.arrays[0]),
              ElementsAre(2, 5, 9, 12, 15, 3, 7, 10, 14, 1, 5, 8, 12, 15, 3, 6, 10, 13, 1, 4, 8, 11,
                          15, 2, 6, 9, 13, 0, 4, 7, 11, 14));
  for (const EncodedRow* row : {&cpu, &metal}) {
    EXPECT_EQ(Scale(*row), "3e000000");
    EXPECT_EQ(Bias(*row), "bf800000");
  }
}

// -0.5 ... 2.5 in 3 steps has 0 at 2.5 steps from the edge: the CPU makes that 2, and Metal 3.
TEST(MlxAffine, RoundsTheCodeOfZeroAsTheBackEndDoes) {
  std::vector<float> x(32, 2.5F);
  x[3] = -0.5F;
  const EncodedRow cpu(AffineRecipe(2, 32, FloatType::kF32, kCpu), x);
  const EncodedRow metal(AffineRecipe(2, 32, FloatType::kF32, kMetal), x);
  EXPECT_EQ(LoadLe<float>(cpu.arrays[1]), 2.5F / -2.0F);
  EXPECT_EQ(LoadLe<float>(metal.arrays[1]), 2.5F / -3.0F);
}

TEST(MlxAffine, KeepsZerosAndConstants) {
  for (const MlxRounding rounding : {kCpu, kMetal}) {
    const auto recipe = [&](FloatType type) { return AffineRecipe(4, 32, type, rounding); };
    const EncodedRow zeros(recipe(FloatType::kF32), std::vector<float>(32));
    EXPECT_EQ(Scale(zeros), "b3d6bf95");
    EXPECT_EQ(Bias(zeros), "00000000");
    EXPECT_THAT(zeros.Decoded(), Each(0.0F));
    const float constant = Bf16ToFloat(0xBCA4);
    const EncodedRow negative(recipe(FloatType::kF32), std::vector<float>(32, constant));
    EXPECT_EQ(Scale(negative), rounding == kCpu ? "b3d6bfab" : "3aaeeeef");
    EXPECT_EQ(Bias(negative), "bca40000");
    EXPECT_THAT(negative.arrays[0], Each(std::byte{0}));
    EXPECT_THAT(negative.Decoded(), Each(constant));
    // 1e38 / 1e-7 is Inf.
    EXPECT_THAT(EncodedRow(recipe(FloatType::kF32), std::vector<float>(32, 1e38F)).Decoded(),
                Each(1e38F));
    EXPECT_EQ(Scales(EncodedRow(recipe(FloatType::kBF16), std::vector<float>(32))), "d7b3");
    EXPECT_EQ(Scales(EncodedRow(recipe(FloatType::kF16), std::vector<float>(32))), "0280");
  }
}

struct FloatsGroup {
  float offset;
  GroupEncoding floats;
  MlxRounding rounding;
  const char* scales;
  const char* codes;
};
constexpr FloatsGroup kFloatsGroups[] = {
    {0, kMxfp4, kCpu, "7979", "dd21c510413dd593595925099bc24ddab0514dab1522c235393a31c9294059c3"},
    {0, kNvfp4, kCpu, "04040404",
     "ff31e710625ff7957b7a470aade46ffcd9726fcd1744e357595c52e949617be5"},
    {0, kMxfp8, kCpu, "7272",
     "fcfc616e7afac6626a76fc747cfb72e0eb7cea7c7d70e898f3e871f9fa79f2fddff3677cfc76f2f17c6271706df9"
     "7b76e174f1736875e4f7e171597aeb7b74f9"},
    {0, kMxfp4, kMetal, "7979", "dd21c518413dd593595925899bc24ddab8514dab1522c235393a31c9294059c3"},
    {0, kNvfp4, kMetal, "04040404",
     "ff31e718625ff7957b7a478aade46ffcd9726fcd1744e357595c52e949617be5"},
    {-0.015F, kMxfp4, kCpu, "7979",
     "ee09d39a291ee4a14b4b04abbcd03eecca492ecc9400d0141a1c19db0a3a4bd1"},
    {-0.015F, kNvfp4, kCpu, "05060504",
     "ff0af5ab392ff5c15c5c05bccde03efdec5a3fdea500e9252c2e3afd1c5b6df2"},
    {-0.015F, kMxfp8, kCpu, "7373",
     "f8f8e3cc6df6e8e2db66f86270f75aeaed70ec70714bece7f1ec52f5f66af1f8eaf1e070f865f1f070e34e43d3f4"
     "6e64ea60f05ddf63ebf3ea51e56bed6e61f5"},
    {-0.015F, kMxfp4, kMetal, "7979",
     "ee89d39a291ee4a14b4b04abbcd03eecca492ecc9400d8241a1c19db0a3a4bd1"},
    {-0.015F, kNvfp4, kMetal, "05060504",
     "ff8af5ab392ff5c15c5c05bccde03efdec5a3fdea500e9252c2e3afd1c5b6df2"},
};

TEST(MlxFloats, HaveTheBytesOfKnownGroups) {
  for (const FloatsGroup& group : kFloatsGroups) {
    const std::vector<float> x = UniformWeights(group.offset);
    const EncodedRow row(FloatsRecipe(group.floats, FloatType::kBF16, group.rounding), x);
    EXPECT_EQ(Codes(row), group.codes) << EncodingName(group.floats);
    EXPECT_EQ(Scales(row), group.scales) << EncodingName(group.floats);
    if (group.floats != kMxfp8) continue;  // both back ends agree on it
    const EncodedRow metal(FloatsRecipe(group.floats, FloatType::kBF16, kMetal), x);
    EXPECT_EQ(metal.arrays, row.arrays);
  }
}

int ExponentFor(const GroupEncoding& floats, float largest, MlxRounding rounding) {
  std::vector<float> x(32);
  x[7] = largest;
  const EncodedRow row(FloatsRecipe(floats, FloatType::kF32, rounding), x);
  return std::to_integer<int>(row.arrays[1][0]) - 127;
}

TEST(MlxFloats, RoundTheExponentUp) {
  for (const MlxRounding rounding : {kCpu, kMetal}) {
    EXPECT_EQ(ExponentFor(kMxfp4, 3.0F, rounding), -1);
    EXPECT_EQ(ExponentFor(kMxfp4, 3.01F, rounding), 0);
    EXPECT_EQ(ExponentFor(kMxfp4, 6.0F, rounding), 0);
    EXPECT_EQ(ExponentFor(kMxfp4, 6.01F, rounding), 1);
    EXPECT_EQ(ExponentFor(kMxfp4, -0.75F, rounding), -3);
    EXPECT_EQ(ExponentFor(kMxfp4, -0.8F, rounding), -2);
    EXPECT_EQ(ExponentFor(kMxfp8, 448.0F, rounding), 0);
    EXPECT_EQ(ExponentFor(kMxfp8, 449.0F, rounding), 1);
    EXPECT_EQ(ExponentFor(kMxfp8, 1.75F, rounding), -8);
    EXPECT_EQ(ExponentFor(kMxfp8, 1.8F, rounding), -7);
    EXPECT_EQ(ExponentFor(kMxfp8, 1e-45F, rounding), rounding == kCpu ? 0 : -127);
    EXPECT_EQ(ExponentFor(kMxfp4, 1e-44F, rounding), -127);
  }
  EXPECT_EQ(ExponentFor(kMxfp4, 0.0F, kCpu), 0);
  EXPECT_EQ(ExponentFor(kMxfp4, 0.0F, kMetal), -127);
}

// 3 * 2^-24 / 6 is half the smallest half: the CPU rounds it to 0, whose exponent is 0.
TEST(MlxFloats, ComputeScalesInFloat32OnMetal) {
  std::vector<float> x(32);
  x[7] = 0x3p-24F;
  EXPECT_EQ(Scales(EncodedRow(FloatsRecipe(kMxfp4, FloatType::kF16, kCpu), x)), "7f");
  EXPECT_EQ(Scales(EncodedRow(FloatsRecipe(kMxfp4, FloatType::kF16, kMetal), x)), "66");
}

// A group of the largest 6 has scale 1. Half way between two codes the CPU takes the one nearer to
// 0, Metal the one with an even mantissa; only Metal has a negative zero.
TEST(MlxFloats, RoundTiesAsTheBackEndDoes) {
  const std::vector<float> magnitudes = {0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F, 6.0F};
  std::vector<float> x;
  for (const float v : magnitudes) {
    x.push_back(v);
    x.push_back(-v);
  }
  x.push_back(-0.0F);
  x.push_back(-1e-30F);
  x.resize(32);
  for (const GroupEncoding& floats : {kMxfp4, kNvfp4}) {
    for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
      const EncodedRow cpu(FloatsRecipe(floats, type, kCpu), x);
      EXPECT_EQ(Codes(cpu).substr(0, 18), "0091a2b3c4d5e6f700") << EncodingName(floats);
      const EncodedRow metal(FloatsRecipe(floats, type, kMetal), x);
      EXPECT_EQ(Codes(metal).substr(0, 18), "80a2a2c4c4e6e6f788") << EncodingName(floats);
    }
  }
}

TEST(MlxFloats, VanishBelowTheSmallestE4m3Scale) {
  std::vector<float> x(16, 0x1p-10F * 6.0F);  // half the smallest scale: rounds to even
  x[1] = -x[0];
  const EncodedRow cpu(FloatsRecipe(kNvfp4, FloatType::kBF16, kCpu), x);
  EXPECT_EQ(Scales(cpu), "00");
  EXPECT_EQ(Codes(cpu), "0000000000000000");
  const EncodedRow metal(FloatsRecipe(kNvfp4, FloatType::kBF16, kMetal), x);
  EXPECT_EQ(Scales(metal), "00");
  EXPECT_EQ(Codes(metal), "8000000000000000");
}

// MLX itself would clip the group.
TEST(MlxFloats, HaveANanScaleWhereE4m3HasNone) {
  for (const MlxRounding rounding : {kCpu, kMetal}) {
    const Recipe recipe = FloatsRecipe(kNvfp4, FloatType::kF32, rounding);
    std::vector<float> x(16);
    x[3] = 464.0F * 6.0F;  // half way from 448 to the 480 that would be next
    EXPECT_EQ(Scales(EncodedRow(recipe, x)), "7e");
    x[3] = 465.0F * 6.0F;
    EXPECT_EQ(Scales(EncodedRow(recipe, x)), "7f");
  }
}

TEST(MlxFloats, HaveANanScaleWhereAWeightIsBeyondTheType) {
  for (const MlxRounding rounding : {kCpu, kMetal}) {
    for (const GroupEncoding& floats : {kMxfp4, kMxfp8}) {
      std::vector<float> x(32);
      x[3] = 65520.0F;
      EXPECT_EQ(Scales(EncodedRow(FloatsRecipe(floats, FloatType::kF16, rounding), x)), "ff");
      x[3] = 65504.0F;
      EXPECT_NE(Scales(EncodedRow(FloatsRecipe(floats, FloatType::kF16, rounding), x)), "ff");
      x[3] = std::numeric_limits<float>::max();
      EXPECT_EQ(Scales(EncodedRow(FloatsRecipe(floats, FloatType::kBF16, rounding), x)), "ff");
    }
  }
}

// Its definition, value by value: 4 bits of exponent, 3 of mantissa.
TEST(E4m3, DecodesEveryCode) {
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const int mantissa = code & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    const float value = E4m3ToFloat(static_cast<std::uint8_t>(code));
    if ((code & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(value, code < 128 ? magnitude : -magnitude) << code;
      EXPECT_EQ(std::signbit(value), code >= 128) << code;
    }
  }
}

TEST(E4m3, RoundsToNearestOnBothSidesOfEveryStep) {
  for (std::uint8_t code = 0; code < kE4m3Largest; ++code) {
    const auto next = static_cast<std::uint8_t>(code + 1);
    const float at = E4m3ToFloat(code);
    const float middle = (at + E4m3ToFloat(next)) / 2.0F;  // exact
    for (const float sign : {1.0F, -1.0F}) {
      const int sign_bit = sign < 0 ? 0x80 : 0;
      EXPECT_EQ(FloatToE4m3(sign * at), code | sign_bit);
      EXPECT_EQ(FloatToE4m3(sign * std::nextafter(middle, 0.0F)), code | sign_bit);
      EXPECT_EQ(FloatToE4m3(sign * middle), (code % 2 == 0 ? code : next) | sign_bit);
      EXPECT_EQ(FloatToE4m3(sign * std::nextafter(middle, 500.0F)), next | sign_bit);
    }
  }
  for (const float v : {448.0F, 449.0F, 1e30F, std::numeric_limits<float>::infinity()})
    EXPECT_EQ(FloatToE4m3(v), kE4m3Largest);
}

TEST(E8m0, DecodesEveryCode) {
  for (int code = 0; code < 255; ++code)
    EXPECT_EQ(E8m0ToFloat(static_cast<std::uint8_t>(code)), std::ldexp(1.0, code - 127));
  EXPECT_TRUE(std::isnan(E8m0ToFloat(255)));
}

}  // namespace
}  // namespace phiq
