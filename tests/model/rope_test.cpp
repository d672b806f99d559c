// Rotary tables against numbers worked out elsewhere. Those with many digits come from this Python,
// in which every step but the power is float32 (numpy 1.24, Debian's Python 3.11):
//
//   e = np.float32(2 * i) / np.float32(rope_dim)
//   p = np.float32(math.pow(theta, float(e)))
//   f = np.float32(1) / (np.float32(factor) * p)
//   float(np.float32(math.cos(float(np.float32(position) * f))) * np.float32(m)).hex()
//
// with m = math.sqrt(1 + math.log(C / C0) / math.log(C0)).
#include "model/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "phiq/error.h"

namespace phiq {
namespace {

using enum ConfigTable;
using ::testing::Each;
using ::testing::ElementsAre;

ModelConfig Config(std::uint32_t rope_dim, std::uint32_t original, std::uint32_t positions) {
  ModelConfig config;
  config.head_dim = rope_dim;
  config.rope_dim = rope_dim;
  config.original_max_position_embeddings = original;
  config.max_position_embeddings = positions;
  return config;
}

// Eight frequencies with simple factors, from 512 to 8192 positions.
ModelConfig LongConfig() {
  ModelConfig config = Config(16, 512, 8192);
  config.rope_scaling = RopeScalingType::kLongRope;
  for (int i = 0; i < 8; ++i) {
    config.long_factor.push_back(1.0F + 0.5F * static_cast<float>(i));
    config.short_factor.push_back(1.0F + 0.03125F * static_cast<float>(i));
  }
  return config;
}

std::vector<float> Row(const ModelConfig& config, ConfigTable table, std::uint64_t row) {
  std::vector<float> values(ShapeOf(config, table).n_columns);
  ConfigTables(config).ReadRows(table, row, values);
  return values;
}

float At(const ModelConfig& config, ConfigTable table, std::uint64_t row, std::size_t column) {
  return Row(config, table, row).at(column);
}

TEST(RopeAttentionFactor, IsTransformersFigure) {
  ModelConfig config = Config(96, 4096, 131072);
  config.rope_scaling = RopeScalingType::kLongRope;
  // sqrt(1 + 5 ln 2 / (12 ln 2)) = sqrt(17 / 12)
  EXPECT_EQ(RopeAttentionFactor(config), 1.1902380714F);
  EXPECT_FLOAT_EQ(RopeAttentionFactor(config), std::sqrt(17.0F / 12.0F));
  config = LongConfig();  // 4 doublings of 2^9
  EXPECT_FLOAT_EQ(RopeAttentionFactor(config), std::sqrt(13.0F / 9.0F));
}

TEST(RopeAttentionFactor, IsYarnsFigure) {
  ModelConfig config = Config(96, 4096, 131072);
  config.rope_scaling = RopeScalingType::kYarn;
  EXPECT_FLOAT_EQ(RopeAttentionFactor(config), 1.3465736F);  // 0.1 ln 32 + 1
}

TEST(RopeAttentionFactor, IsOneWithoutALongerContext) {
  ModelConfig config = Config(96, 4096, 4096);
  config.rope_scaling = RopeScalingType::kLongRope;
  EXPECT_EQ(RopeAttentionFactor(config), 1.0F);
  config.original_max_position_embeddings = 8192;
  EXPECT_EQ(RopeAttentionFactor(config), 1.0F);
}

// config.json may name an original length without scaling anything.
TEST(RopeAttentionFactor, IsOneWithoutScaling) {
  EXPECT_EQ(RopeAttentionFactor(Config(96, 4096, 131072)), 1.0F);
}

TEST(RopeAttentionFactor, RefusesALengthWithoutALogarithm) {
  ModelConfig config = Config(96, 1, 4096);
  config.rope_scaling = RopeScalingType::kLongRope;
  try {
    RopeAttentionFactor(config);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadData);
    EXPECT_STREQ(error.what(),
                 "config.json: original_max_position_embeddings 1, allowed with longrope: 2 and "
                 "above");
  }
}

// 1 / (1e-45 * 1) is Inf, and 0 times that is no angle.
TEST(RopeTables, RefuseFactorsWithoutFiniteAngles) {
  ModelConfig config = Config(96, 4096, 4096);
  config.short_factor.assign(48, 1.0F);
  config.short_factor[1] = 1e-45F;
  try {
    const ConfigTables tables(config);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadData);
    EXPECT_STREQ(error.what(),
                 "config.json: rotary frequency 1 is inf: theta or a rope factor is too small");
  }
}

TEST(RopeTables, HaveARowForEveryPosition) {
  const ModelConfig config = LongConfig();
  const auto rows = [&](ConfigTable table) {
    EXPECT_EQ(ShapeOf(config, table).n_columns, 8U) << ConfigTableName(table);
    return ShapeOf(config, table).n_rows;
  };
  EXPECT_EQ(rows(kLongFactor), 1U);
  EXPECT_EQ(rows(kShortFactor), 1U);
  EXPECT_EQ(rows(kCos), 8192U);
  EXPECT_EQ(rows(kSin), 8192U);
  EXPECT_EQ(rows(kCosLong), 8192U);
  EXPECT_EQ(rows(kSinLong), 8192U);
  EXPECT_EQ(rows(kCosShort), 512U);
  EXPECT_EQ(rows(kSinShort), 512U);
  EXPECT_EQ(rows(kCosShortLong), 8704U);
  EXPECT_EQ(rows(kSinShortLong), 8704U);
}

TEST(RopeTables, HaveNamesOfTheirOwn) {
  EXPECT_EQ(ConfigTableName(kLongFactor), "long_factor");
  EXPECT_EQ(ConfigTableName(kCos), "cos");
  EXPECT_EQ(ConfigTableName(kSinLong), "sin_long");
  EXPECT_EQ(ConfigTableName(kCosShortLong), "cos_short_long");
}

// Phi-3.5-mini and Phi-4-mini have 48 columns: all of 96 dimensions, and three quarters of 128.
TEST(RopeTables, RotateAPartOfTheHead) {
  ModelConfig whole = Config(96, 4096, 4096);
  ModelConfig part = whole;
  part.head_dim = 128;
  EXPECT_EQ(ShapeOf(part, kCos).n_columns, 48U);
  EXPECT_EQ(Row(part, kCos, 4095),
            Row(whole, kCos, 4095));  // the frequencies count rotated dimensions
}

TEST(RopeTables, StartWithTheAttentionFactorAndZero) {
  const ModelConfig config = LongConfig();
  for (const ConfigTable table : {kCosLong, kCosShort, kCosShortLong})
    EXPECT_THAT(Row(config, table, 0), Each(0x1.33ac78p+0F));
  for (const ConfigTable table : {kSinLong, kSinShort, kSinShortLong})
    EXPECT_THAT(Row(config, table, 0), Each(0.0F));
}

TEST(RopeTables, ComputeShortFactorsInFloat32) {
  const ModelConfig config = LongConfig();
  EXPECT_EQ(At(config, kCosShort, 1, 0), 0x1.4c793ep-1F);
  EXPECT_EQ(At(config, kSinShort, 1, 0), 0x1.02e604p+0F);
  EXPECT_EQ(At(config, kCosShort, 1, 7), 0x1.33ac76p+0F);
  EXPECT_EQ(At(config, kSinShort, 1, 7), 0x1.46fdaep-12F);
  EXPECT_EQ(At(config, kCosShort, 511, 3), -0x1.6dff6p-1F);
  EXPECT_EQ(At(config, kSinShort, 511, 3), 0x1.eeab7ap-1F);
  EXPECT_EQ(At(config, kCosShort, 511, 7), 0x1.30f926p+0F);
  EXPECT_EQ(At(config, kSinShort, 511, 7), 0x1.45659ep-3F);
}

TEST(RopeTables, ComputeLongFactorsInFloat32) {
  const ModelConfig config = LongConfig();
  EXPECT_EQ(At(config, kCosLong, 1, 1), 0x1.2cdcap+0F);
  EXPECT_EQ(At(config, kSinLong, 1, 1), 0x1.01891ep-2F);
  EXPECT_EQ(At(config, kCosLong, 4095, 0), -0x1.44c906p-4F);
  EXPECT_EQ(At(config, kSinLong, 4095, 0), -0x1.3300dcp+0F);
  EXPECT_EQ(At(config, kCosLong, 4095, 3), 0x1.77b13ap-5F);
  EXPECT_EQ(At(config, kSinLong, 4095, 3), 0x1.33731ap+0F);
  EXPECT_EQ(At(config, kCosLong, 8191, 1), 0x1.2bf39ep-1F);
  EXPECT_EQ(At(config, kSinLong, 8191, 1), -0x1.0ca53ap+0F);
  EXPECT_EQ(At(config, kCosLong, 8191, 7), 0x1.02189ep+0F);
  EXPECT_EQ(At(config, kSinLong, 8191, 7), 0x1.4ef5a6p-1F);
}

// Phi-4: no factors, theta 250000.
TEST(RopeTables, ComputeASingleTableInFloat32) {
  ModelConfig config = Config(128, 16384, 16384);
  config.rope_theta = 250000.0F;
  EXPECT_EQ(At(config, kCos, 1, 0), 0x1.14a28p-1F);
  EXPECT_EQ(At(config, kSin, 1, 0), 0x1.aed548p-1F);
  EXPECT_EQ(At(config, kCos, 1, 63), 1.0F);
  EXPECT_EQ(At(config, kSin, 1, 63), 0x1.45f94cp-18F);
  EXPECT_EQ(At(config, kCos, 4095, 1), -0x1.3f4aep-2F);
  EXPECT_EQ(At(config, kSin, 4095, 1), -0x1.e6796p-1F);
  EXPECT_EQ(At(config, kCos, 16383, 1), 0x1.70d776p-2F);
  EXPECT_EQ(At(config, kSin, 16383, 1), 0x1.dda1f6p-1F);
  EXPECT_EQ(At(config, kCos, 16383, 5), -0x1.b7c84cp-1F);
  EXPECT_EQ(At(config, kSin, 16383, 63), 0x1.459c28p-4F);
}

// Frequencies in double would give -1.0588811 in column 1.
TEST(RopeTables, RoundTheFrequencyBeforeAFarPosition) {
  ModelConfig config = Config(96, 4096, 131072);
  config.rope_scaling = RopeScalingType::kLongRope;
  config.long_factor.assign(48, 1.0F);
  config.short_factor.assign(48, 1.0F);
  EXPECT_EQ(At(config, kCosLong, 131071, 1), -0x1.0e5c8ap+0F);
  EXPECT_EQ(At(config, kSinLong, 131071, 1), 0x1.190ceep-1F);
  EXPECT_EQ(At(config, kCosLong, 131071, 20), -0x1.120afap+0F);
  EXPECT_EQ(At(config, kCosLong, 131071, 47), -0x1.2c3924p+0F);
  EXPECT_EQ(At(config, kSinLong, 131071, 47), -0x1.a05c4ep-3F);
  EXPECT_NE(At(config, kCosLong, 131071, 1), -1.0588811F);
}

TEST(RopeTables, PutTheLongTableBelowTheShortOne) {
  const ModelConfig config = LongConfig();
  for (const auto& [both, short_table, long_table] :
       {std::tuple(kCosShortLong, kCosShort, kCosLong), {kSinShortLong, kSinShort, kSinLong}}) {
    for (const std::uint64_t row : {0, 1, 511})
      EXPECT_EQ(Row(config, both, row), Row(config, short_table, row));
    for (const std::uint64_t row : {0, 1, 511, 512, 8191})
      EXPECT_EQ(Row(config, both, 512 + row), Row(config, long_table, row));
  }
}

TEST(RopeTables, AreTheSameReadAtOnceOrRowByRow) {
  const ModelConfig config = LongConfig();
  const ConfigTables tables(config);
  std::vector<float> at_once(4 * 8);
  tables.ReadRows(kSinShortLong, 510, at_once);  // across the seam
  for (std::size_t r = 0; r < 4; ++r) {
    EXPECT_EQ(std::vector(at_once.begin() + static_cast<std::ptrdiff_t>(8 * r),
                          at_once.begin() + static_cast<std::ptrdiff_t>(8 * r + 8)),
              Row(config, kSinShortLong, 510 + r));
  }
}

TEST(RopeTables, GiveTheFactorsAsTheyAre) {
  const ModelConfig config = LongConfig();
  EXPECT_THAT(Row(config, kLongFactor, 0), ElementsAre(1, 1.5F, 2, 2.5F, 3, 3.5F, 4, 4.5F));
  EXPECT_EQ(Row(config, kShortFactor, 0), config.short_factor);
}

// Positions of kCos take short factors.
TEST(RopeTables, UseShortFactorsWhereTheContextIsNotLonger) {
  ModelConfig config = LongConfig();
  config.max_position_embeddings = 512;
  std::vector<float> of_short = Row(config, kCosShort, 300);
  EXPECT_EQ(Row(config, kCos, 300), of_short);
  EXPECT_EQ(Row(config, kCos, 0), std::vector<float>(8, 1.0F));
}

}  // namespace
}  // namespace phiq
