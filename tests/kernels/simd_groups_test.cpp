// The vector kernels of integer groups give the plain loops' codes, scales and zero points on every
// instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

#include "kernels/bits.h"
#include "kernels/mlx_groups.h"
#include "kernels/nncf_error.h"
#include "kernels/rounding.h"
#include "kernels/scale_type.h"
#include "kernels/simd/groups.h"
#include "simd_testing.h"

namespace phiq {
namespace {

using testing::Kind;

using PlainGroup = GroupScale (*)(const GroupSpec&, std::span<const float>,
                                  std::span<std::uint8_t>) noexcept;

struct Method {
  simd::GroupKernel kernel;
  PlainGroup plain;
  bool rounds_weights;  // to the type of the scales, before
};

class GroupKernels : public testing::OnEveryTarget {
 protected:
  void ExpectPlainCodes(const Method& method, bool symmetric,
                        const std::vector<ScaleType>& scale_types = {ScaleType::kF32,
                                                                     ScaleType::kF16},
                        bool positive_scales = false) {
    for (const int bits : {4, 8})
      for (const ScaleType scale_type : scale_types)
        for (const std::size_t group_size : {16, 32, 256})
          for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16})
            for (int k = 0; k <= static_cast<int>(Kind::kLast); ++k)
              if (group_size == 32 || type == FloatType::kBF16)
                ExpectPlainCodes(method, {bits, symmetric, scale_type, positive_scales}, group_size,
                                 type, static_cast<Kind>(k));
  }

 private:
  void ExpectPlainCodes(const Method& method, const GroupSpec& spec, std::size_t group_size,
                        FloatType type, Kind kind) {
    constexpr std::size_t kGroups = 21;  // a batch and a part of one
    const std::size_t n = kGroups * group_size;
    const std::vector<std::byte> stored = testing::Stored(type, testing::WeightsOfKind(kind, n, 5));
    std::vector<float> x = testing::Floats(type, stored);
    if (method.rounds_weights)
      for (float& v : x) v = RoundTo(spec.scale, v);

    const std::size_t group_bytes = PackedBytes(spec.bits, group_size);
    std::vector<std::byte> codes(kGroups * group_bytes + 64, std::byte{0xA5});
    std::vector<float> scales(kGroups);
    std::vector<std::uint8_t> zero_points(kGroups);
    const bool is_done = method.kernel(spec, group_size, {type, stored.data()}, kGroups,
                                       {codes.data(), scales.data(), zero_points.data()});
    ASSERT_EQ(is_done, GetParam() != HWY_SCALAR);
    const std::size_t n_done = is_done ? kGroups : 0;
    for (std::size_t g = 0; g < n_done; ++g) {
      std::vector<std::uint8_t> expected(group_size);
      const GroupScale scale =
          method.plain(spec, std::span(x).subspan(g * group_size, group_size), expected);
      std::vector<std::byte> packed(group_bytes);
      PackBits(spec.bits, expected, packed);
      const auto where = [&] {
        return ::testing::Message()
               << "kind " << static_cast<int>(kind) << " of " << testing::NameOf(type) << ", "
               << spec.bits << " bits, group " << g << " of " << group_size << ", scales "
               << testing::NameOf(AsFloatType(spec.scale));
      };
      ASSERT_EQ(std::bit_cast<std::uint32_t>(scales[g]), std::bit_cast<std::uint32_t>(scale.scale))
          << where();
      ASSERT_EQ(zero_points[g], scale.zero_point) << where();
      ASSERT_TRUE(std::equal(packed.begin(), packed.end(), codes.begin() + g * group_bytes))
          << where();
    }
    for (std::size_t i = n_done * group_bytes; i < codes.size(); ++i)
      ASSERT_EQ(codes[i], std::byte{0xA5}) << "wrote behind the last group";
  }
};

constexpr Method kNearestMethod = {simd::EncodeNearest, QuantizeNearest, false};
constexpr Method kMlasMethod = {simd::EncodeMlas, QuantizeMlas, true};
constexpr Method kGatherMethod = {simd::EncodeGather, QuantizeGather, true};
constexpr Method kRtnMethod = {simd::EncodeRtn, QuantizeRtn, true};
constexpr Method kKQuantMethod = {simd::EncodeKQuant, QuantizeKQuant, true};
constexpr Method kNncfMethod = {simd::EncodeNncf, QuantizeNncf, false};
constexpr Method kMinMaxMethod = {simd::EncodeMinMax, QuantizeMinMax, false};
const std::vector<ScaleType> kAllFloats = {ScaleType::kF32, ScaleType::kF16, ScaleType::kBF16};

TEST_P(GroupKernels, EncodeWithPositiveScales) {
  ExpectPlainCodes(kNearestMethod, true, {ScaleType::kF32, ScaleType::kF16}, true);
}
TEST_P(GroupKernels, EncodeAsMlasSymmetric) { ExpectPlainCodes(kMlasMethod, true); }
TEST_P(GroupKernels, EncodeAsMlasWithZeroPoints) { ExpectPlainCodes(kMlasMethod, false); }
TEST_P(GroupKernels, EncodeAsGatherSymmetric) { ExpectPlainCodes(kGatherMethod, true); }
TEST_P(GroupKernels, EncodeAsGatherWithZeroPoints) { ExpectPlainCodes(kGatherMethod, false); }
TEST_P(GroupKernels, EncodeAsNncfSymmetric) { ExpectPlainCodes(kNncfMethod, true); }
TEST_P(GroupKernels, EncodeAsNncfWithZeroPoints) { ExpectPlainCodes(kNncfMethod, false); }
TEST_P(GroupKernels, EncodeAsMinMaxSymmetric) { ExpectPlainCodes(kMinMaxMethod, true, kAllFloats); }
TEST_P(GroupKernels, EncodeAsMinMaxWithZeroPoints) {
  ExpectPlainCodes(kMinMaxMethod, false, kAllFloats);
}
TEST_P(GroupKernels, EncodeAsRtnSymmetric) { ExpectPlainCodes(kRtnMethod, true); }
TEST_P(GroupKernels, EncodeAsRtnWithZeroPoints) { ExpectPlainCodes(kRtnMethod, false); }
TEST_P(GroupKernels, EncodeAsKQuant) { ExpectPlainCodes(kKQuantMethod, false); }

float RoundedTo(FloatType type, float v) {
  if (type == FloatType::kF32) return v;
  return type == FloatType::kF16 ? RoundToHalf(v) : RoundToBf16(v);
}

TEST_P(GroupKernels, EncodeAsMlxAffine) {
  constexpr std::size_t kGroups = 13;
  for (const bool as_metal : {false, true}) {
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
        for (const FloatType scale_type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
          for (int k = 0; k <= static_cast<int>(Kind::kLast); ++k) {
            const std::size_t group_size = bits == 4 ? 64 : bits == 8 ? 128 : 32;
            const std::size_t n = kGroups * group_size;
            const std::vector<std::byte> stored =
                testing::Stored(type, testing::WeightsOfKind(static_cast<Kind>(k), n, 6));
            std::vector<float> x = testing::Floats(type, stored);
            for (float& v : x) v = RoundedTo(scale_type, v);
            const std::size_t group_bytes = PackedBytes(bits, group_size);
            std::vector<std::byte> codes(kGroups * group_bytes);
            std::vector<float> scales(kGroups), biases(kGroups);
            ASSERT_EQ(simd::EncodeMlxAffine(bits, as_metal, scale_type, group_size,
                                            {type, stored.data()}, kGroups,
                                            {codes.data(), scales.data(), nullptr, biases.data()}),
                      GetParam() != HWY_SCALAR);
            if (GetParam() == HWY_SCALAR) continue;
            for (std::size_t g = 0; g < kGroups; ++g) {
              std::vector<std::uint8_t> expected(group_size);
              const MlxScale scale = QuantizeMlxAffine(
                  bits, as_metal, std::span(x).subspan(g * group_size, group_size), expected);
              std::vector<std::byte> packed(group_bytes);
              PackBits(bits, expected, packed);
              const auto where = [&] {
                return ::testing::Message()
                       << "kind " << k << " of " << testing::NameOf(type) << ", " << bits
                       << " bits, group " << g << " of " << group_size << ", scales "
                       << testing::NameOf(scale_type) << (as_metal ? ", metal" : "");
              };
              ASSERT_EQ(std::bit_cast<std::uint32_t>(scales[g]),
                        std::bit_cast<std::uint32_t>(scale.scale))
                  << where() << " " << scales[g] << " for " << scale.scale;
              ASSERT_EQ(std::bit_cast<std::uint32_t>(biases[g]),
                        std::bit_cast<std::uint32_t>(scale.bias))
                  << where();
              ASSERT_TRUE(std::equal(packed.begin(), packed.end(), codes.begin() + g * group_bytes))
                  << where();
            }
          }
        }
      }
    }
  }
}

TEST_P(GroupKernels, EncodeAsMlxFloats) {
  constexpr std::size_t kGroups = 13;
  for (const bool as_metal : {false, true}) {
    for (const GroupEncoding& groups : {kMxfp4, kMxfp8, kNvfp4}) {
      for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
        for (const FloatType rounded_to : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
          for (int k = 0; k <= static_cast<int>(Kind::kLast); ++k) {
            const std::size_t group_size = groups.group_size;
            const std::vector<std::byte> stored = testing::Stored(
                type, testing::WeightsOfKind(static_cast<Kind>(k), kGroups * group_size, 7));
            std::vector<float> x = testing::Floats(type, stored);
            for (float& v : x) v = RoundedTo(rounded_to, v);
            const std::size_t group_bytes = PackedBytes(BitsOf(groups.code), group_size);
            std::vector<std::byte> codes(kGroups * group_bytes);
            std::vector<float> scales(kGroups);
            ASSERT_EQ(
                simd::EncodeMlxFloats(groups, rounded_to, as_metal, {type, stored.data()}, kGroups,
                                      {codes.data(), scales.data(), nullptr, nullptr}),
                GetParam() != HWY_SCALAR);
            if (GetParam() == HWY_SCALAR) continue;
            for (std::size_t g = 0; g < kGroups; ++g) {
              std::vector<std::uint8_t> expected(group_size);
              const std::uint8_t scale =
                  QuantizeMlxFloats(groups, rounded_to, as_metal,
                                    std::span(x).subspan(g * group_size, group_size), expected);
              std::vector<std::byte> packed(group_bytes);
              PackBits(BitsOf(groups.code), expected, packed);
              const auto where = [&] {
                return ::testing::Message()
                       << "kind " << k << " of " << testing::NameOf(type) << " as "
                       << testing::NameOf(rounded_to) << ", " << EncodingName(groups) << ", group "
                       << g << (as_metal ? ", metal" : "");
              };
              std::byte byte{};
              StoreScale(groups.scale, scales[g], {&byte, 1}, 0);
              ASSERT_EQ(byte, std::byte{scale}) << where() << " " << scales[g];
              ASSERT_TRUE(std::equal(packed.begin(), packed.end(), codes.begin() + g * group_bytes))
                  << where();
            }
          }
        }
      }
    }
  }
}

// What ranks rows for NNCF's ratio: as the plain loops and eight sums give it, of any length.
TEST_P(GroupKernels, MeasureRowsInEightSums) {
  constexpr GroupSpec kInt8 = {.bits = 8, .symmetric = false};
  for (const std::size_t n : {1, 15, 16, 20, 64, 333, 3072}) {
    const std::vector<float> x = testing::WeightsOfKind(Kind::kHeavyTails, n, 8);
    std::vector<std::uint8_t> codes(n), expected_codes(n);
    const GroupScale group = QuantizeNncf(kInt8, x, expected_codes);
    double sums[8] = {};
    for (std::size_t i = 0; i < n; ++i) {
      const float error =
          static_cast<float>(expected_codes[i] - group.zero_point) * group.scale - x[i];
      sums[i < n / 8 * 8 ? i % 8 : 0] += static_cast<double>(error * error);
    }
    const double sum = std::accumulate(sums, sums + 8, 0.0);
    EXPECT_EQ(Int8RowError(x, codes), static_cast<float>(sum / static_cast<double>(n))) << n;
    EXPECT_EQ(codes, expected_codes) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(, GroupKernels, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         testing::TargetName);

}  // namespace
}  // namespace phiq
