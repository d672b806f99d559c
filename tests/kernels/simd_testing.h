// Weights that bring vector kernels to the borders of their shortcuts.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels/float_type.h"
#include "kernels/simd/targets.h"
#include "kernels/simd/weights.h"
#include "testing/every_target.h"

namespace phiq::testing {

enum class Kind {
  kGaussian,
  kHeavyTails,
  kMostlyZeros,
  kDenormal,
  kWide,            // up to 2^40
  kConstantRuns,    // runs of 16 or 32 equal weights among others
  kNearlyConstant,  // one step of the last place apart
  kOffset,          // a mean far above the spread
  kUnevenScales,    // 2^12 between neighbouring runs
  kPositive,
  kNegative,
  kRandomBits,
  kTies,
  kTiny,       // around the limit below which weights count as zero
  kNearLimit,  // below the largest weight that is searched, and some above
  kLast = kNearLimit
};

inline float OneWeight(Kind kind, std::size_t i, std::mt19937& rng) {
  std::normal_distribution<float> gaussian(0.0F, 0.02F);
  std::student_t_distribution<float> heavy(1.5F);
  const auto coin = [&] { return (rng() & 1U) != 0; };
  switch (kind) {
    case Kind::kGaussian:
      return gaussian(rng);
    case Kind::kHeavyTails:
      return heavy(rng);
    case Kind::kMostlyZeros:
      return rng() % 16 == 0 ? gaussian(rng) : coin() ? 0.0F : -0.0F;
    case Kind::kDenormal:
      return std::bit_cast<float>(static_cast<std::uint32_t>(rng() & 0x80FFFFFFU));
    case Kind::kWide:
      return std::ldexp(gaussian(rng), static_cast<int>(rng() % 80) - 34);
    case Kind::kConstantRuns:
      return i / 32 % 3 == 0 ? 0.25F * static_cast<float>(static_cast<int>(i / 96 % 5) - 2)
                             : gaussian(rng);
    case Kind::kNearlyConstant:
      return i / 32 % 2 == 0 ? (coin() ? 1.0F : std::nextafter(1.0F, 2.0F))
                             : (coin() ? -3.0F : std::nextafter(-3.0F, 0.0F));
    case Kind::kOffset:
      return 100.0F + gaussian(rng);
    case Kind::kUnevenScales:
      return std::ldexp(gaussian(rng), static_cast<int>(i / 16 * 7 % 13));
    case Kind::kPositive:
      return std::abs(gaussian(rng));
    case Kind::kNegative:
      return -std::abs(gaussian(rng));
    case Kind::kRandomBits: {
      const float v = std::bit_cast<float>(static_cast<std::uint32_t>(rng()));
      return std::isfinite(v) ? v : 0.0F;
    }
    case Kind::kTies:
      return 0.5F * static_cast<float>(static_cast<int>(rng() % 33) - 16);
    case Kind::kTiny:
      return 1e-15F * gaussian(rng) * 60.0F;
    case Kind::kNearLimit:
      return 5e7F * heavy(rng) * (i / 256 % 3 == 0 ? 1.0F : 1e-3F);
  }
  return 0.0F;
}

inline std::vector<float> WeightsOfKind(Kind kind, std::size_t n, std::uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = OneWeight(kind, i, rng);
  return x;
}

// The same weights as a checkpoint of `type` would hold them, those beyond its range cut.
inline std::vector<std::byte> Stored(FloatType type, const std::vector<float>& x) {
  std::vector<std::byte> bytes(x.size() * FloatBytes(type));
  const float largest = type == FloatType::kF16    ? 65504.0F
                        : type == FloatType::kBF16 ? std::bit_cast<float>(0x7F7F0000U)
                                                   : std::numeric_limits<float>::max();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float v = std::abs(x[i]) > largest ? std::copysign(largest, x[i]) : x[i];
    StoreFloat(type, v, bytes, i);
  }
  return bytes;
}

inline std::vector<float> Floats(FloatType type, const std::vector<std::byte>& bytes) {
  std::vector<float> x(bytes.size() / FloatBytes(type));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = LoadFloat(type, bytes, i);
  return x;
}

inline const char* NameOf(FloatType type) {
  return type == FloatType::kF32 ? "f32" : type == FloatType::kF16 ? "f16" : "bf16";
}

}  // namespace phiq::testing
