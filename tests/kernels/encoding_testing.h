// What the tests of encodings share: rows to arrays and back, and their errors.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/bits.h"
#include "kernels/scale_type.h"
#include "phiq/encoding.h"
#include "phiq/quantize.h"

namespace phiq {

using Bytes = std::vector<std::byte>;

// Unsigned integer codes, and the same in two's complement.
constexpr bool kSymmetric = true, kAsymmetric = false;
inline GroupEncoding Integers(int bits, bool symmetric, std::size_t group_size,
                              ScaleType scale = ScaleType::kF32) {
  return {UnsignedCode(bits), group_size, scale, symmetric ? Offset::kMiddle : Offset::kZeroPoint};
}
inline GroupEncoding SignedIntegers(int bits, bool symmetric, std::size_t group_size,
                                    ScaleType scale = ScaleType::kF32) {
  return {bits == 8 ? Code::kI8 : Code::kI4, group_size, scale,
          symmetric ? Offset::kNone : Offset::kZeroPoint};
}
// Symmetric, in two's complement, with scales above 0.
inline GroupEncoding PositiveIntegers(int bits, std::size_t group_size, ScaleType scale) {
  GroupEncoding groups = SignedIntegers(bits, kSymmetric, group_size, scale);
  groups.positive_scales = true;
  return groups;
}
// Codes with biases.
inline GroupEncoding Affine(int bits, std::size_t group_size, FloatType type) {
  return {UnsignedCode(bits), group_size, ScaleTypeOf(type), Offset::kBias};
}

// An encoding, and who chooses its codes.
struct Recipe {
  Encoding encoding;
  const Method* method = &kGgml;
};

// The arrays of one row.
struct EncodedRow {
  EncodedRow(const Recipe& recipe, std::span<const float> x, const InputStats& stats = {})
      : EncodedRow(recipe.encoding, *recipe.method, x, stats) {}
  EncodedRow(const Encoding& as, const Method& method, std::span<const float> x,
             const InputStats& stats = {})
      : encoding(as), n(x.size()) {
    if (!method.fills(encoding)) throw std::logic_error(std::string(method.name));
    std::vector<std::span<std::byte>> spans;
    for (std::size_t i = 0; i < ArrayCount(encoding); ++i)
      arrays.emplace_back(ArrayRowBytes(encoding, i, n));
    for (Bytes& array : arrays) spans.emplace_back(array);
    method.quantize(encoding, x, n, stats, spans);
  }

  std::vector<std::span<const std::byte>> Spans() const {
    return std::vector<std::span<const std::byte>>(arrays.begin(), arrays.end());
  }
  std::vector<float> Decoded() const {
    std::vector<float> x(n);
    RowCodec().Decode(encoding, Spans(), x);
    return x;
  }

  Encoding encoding;
  std::size_t n;
  std::vector<Bytes> arrays;
};

// A row of integer groups, unpacked; codes are unsigned.
struct Groups {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint8_t> zero_points;
  std::vector<float> decoded;
};
inline Groups GroupsOf(const GroupEncoding& encoding, const Method& method,
                       std::span<const float> x) {
  const EncodedRow row(encoding, method, x);
  const int bits = BitsOf(encoding.code);
  const std::size_t n_groups = GroupCount(encoding, x.size());
  const auto unpack = [&](const Bytes& array, std::size_t n) {
    std::vector<std::uint8_t> codes(n);
    UnpackBits(bits, std::span(array).first(PackedBytes(bits, n)), codes);
    if (IsSigned(encoding.code)) FlipTopBits(bits, codes);
    return codes;
  };
  Groups groups;
  groups.codes = unpack(row.arrays[0], x.size());
  for (std::size_t g = 0; g < n_groups; ++g)
    groups.scales.push_back(LoadScale(encoding.scale, row.arrays[1], g));
  groups.zero_points.assign(n_groups, static_cast<std::uint8_t>(1 << (bits - 1)));
  if (HasZeroPoints(encoding)) groups.zero_points = unpack(row.arrays[2], n_groups);
  groups.decoded = row.Decoded();
  return groups;
}

inline std::vector<float> GaussianWeights(std::size_t n, unsigned seed, float sd = 0.02F) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0F, sd);
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

// Rows of many kinds: normal of all sizes, uniform, one-sided, outliers, zeros, constant, halves of
// a step.
inline std::vector<float> MixedRow(std::mt19937& rng, std::size_t n) {
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  const float sd = std::pow(10.0F, 11.0F * uniform(rng) - 9.0F);  // outliers stay halves
  const auto kind = rng() % 8;
  const float constant = sd * normal(rng);
  std::vector<float> x(n);
  for (float& v : x) {
    v = sd * normal(rng);
    if (kind == 1) v = sd * (2.0F * uniform(rng) - 1.0F);
    if (kind == 2) v = std::abs(v) + sd;
    if (kind == 3) v = -std::abs(v) - 5.0F * sd;
    if (kind == 4 && uniform(rng) < 0.02F) v *= 50.0F;
    if (kind == 5 && uniform(rng) < 0.3F) v = 0.0F;
    if (kind == 6) v = constant;
    if (kind == 7) v = std::round(15.0F * uniform(rng) - 8.0F) / 2.0F;
  }
  return x;
}

inline double RelativeRmse(std::span<const float> x, std::span<const float> y) {
  double squared_error = 0;
  double squared_weight = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    squared_error += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
    squared_weight += double{x[i]} * x[i];
  }
  return std::sqrt(squared_error / squared_weight);
}

// The largest error, less the slack, as a share of the largest weight of its block.
inline double WorstBlock(const ErrorBound& bound, std::span<const float> x,
                         std::span<const float> y) {
  double worst = 0;
  for (std::size_t first = 0; first < x.size(); first += bound.block_size) {
    double amax = 0;
    double error = 0;
    for (std::size_t i = first; i < std::min(first + bound.block_size, x.size()); ++i) {
      amax = std::max(amax, std::abs(double{x[i]}));
      error = std::max(error, std::abs(double{x[i]} - y[i]));
    }
    if (!(error <= bound.slack)) worst = std::max(worst, (error - bound.slack) / amax);
  }
  return worst;
}

// Every method of integers with all it can do.
inline std::vector<Recipe> IntegerRecipes() {
  using enum ScaleType;
  std::vector<Recipe> all;
  for (const int bits : {4, 8}) {
    for (const std::size_t group_size : {0, 32, 128})
      for (const ScaleType scale : {kF32, kF16})
        all.push_back({PositiveIntegers(bits, group_size, scale), &kNearest});
    for (const bool symmetric : {true, false}) {
      all.push_back({SignedIntegers(bits, symmetric, 0), &kNearest});
      const auto nncf = symmetric ? SignedIntegers : Integers;
      all.push_back({nncf(bits, symmetric, 0, kF16), &kNncf});
      for (const std::size_t group_size : {16, 32, 64, 128, 256}) {
        all.push_back({Integers(bits, symmetric, group_size), &kNearest});
        all.push_back({nncf(bits, symmetric, group_size, kF16), &kNncf});
        for (const ScaleType scale : {kF32, kF16}) {
          for (const Method* method : {&kMlas, &kRtn})
            all.push_back({Integers(bits, symmetric, group_size, scale), method});
          if (!symmetric) all.push_back({Integers(bits, symmetric, group_size, scale), &kKQuant});
          all.push_back({SignedIntegers(bits, symmetric, group_size, scale), &kGather});
        }
      }
    }
  }
  return all;
}

// All that MLX has, by both roundings.
inline std::vector<Recipe> MlxRecipes() {
  std::vector<Recipe> all;
  for (const MlxRounding rounding : {MlxRounding::kCpu, MlxRounding::kMetal}) {
    for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
      const Method& method = MlxMethod(rounding, type);
      for (const int bits : {2, 3, 4, 5, 6, 8})
        for (const std::size_t group_size : {32, 64, 128})
          all.push_back({Affine(bits, group_size, type), &method});
      for (const GroupEncoding& floats : {kMxfp4, kMxfp8, kNvfp4}) all.push_back({floats, &method});
    }
  }
  return all;
}

// "Int4G32AsymRtnHalf", "Affine4G64MlxmetalBFloat", "Mxfp4MlxBFloat"
inline std::string TestName(const Recipe& recipe) {
  constexpr std::string_view kTypes[] = {"", "Half", "BFloat"};
  std::string words = EncodingName(recipe.encoding) + " " + std::string(recipe.method->name);
  std::erase_if(words, [](char c) { return c == '_' || c == '-'; });
  std::string name;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == ' ') continue;
    const bool begins = i == 0 || words[i - 1] == ' ';
    name += begins ? static_cast<char>(words[i] - 'a' + 'A') : words[i];
  }
  const GroupEncoding& groups = std::get<GroupEncoding>(recipe.encoding);
  const auto type = IsFloat(groups.code) ? static_cast<std::size_t>(recipe.method->weights)
                                         : static_cast<std::size_t>(groups.scale);
  if (groups.positive_scales) name += "Positive";
  return name + std::string(kTypes[type]);
}

}  // namespace phiq
