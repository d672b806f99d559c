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
#include "kernels/float_type.h"
#include "phiq/encoding.h"
#include "phiq/quantize.h"

namespace phiq {

using Bytes = std::vector<std::byte>;

// An encoding, and who chooses its codes.
struct Recipe {
  Encoding encoding;
  const Method* method = &kGgml;
};

// The arrays of one row.
struct EncodedRow {
  EncodedRow(const Recipe& recipe, std::span<const float> x)
      : EncodedRow(recipe.encoding, *recipe.method, x) {}
  EncodedRow(const Encoding& as, const Method& method, std::span<const float> x)
      : encoding(as), n(x.size()) {
    if (!method.fills(encoding)) throw std::logic_error(std::string(method.name));
    std::vector<std::span<std::byte>> spans;
    for (std::size_t i = 0; i < ArrayCount(encoding); ++i)
      arrays.emplace_back(ArrayRowBytes(encoding, i, n));
    for (Bytes& array : arrays) spans.emplace_back(array);
    method.quantize(encoding, x, n, spans);
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
inline Groups GroupsOf(const IntegerSpec& spec, const Method& method, std::span<const float> x) {
  const EncodedRow row(IntegerEncoding{spec}, method, x);
  const std::size_t n_groups = GroupCount(spec, x.size());
  const auto unpack = [&](const Bytes& array, std::size_t n) {
    std::vector<std::uint8_t> codes(n);
    UnpackBits(spec.bits, std::span(array).first(PackedBytes(spec.bits, n)), codes);
    return codes;
  };
  Groups groups;
  groups.codes = unpack(row.arrays[0], x.size());
  for (std::size_t g = 0; g < n_groups; ++g)
    groups.scales.push_back(LoadFloat(spec.float_type, row.arrays[1], g));
  groups.zero_points.assign(n_groups, static_cast<std::uint8_t>(1 << (spec.bits - 1)));
  if (HasZeroPoints(spec)) groups.zero_points = unpack(row.arrays[2], n_groups);
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

// Every method with all it can do.
inline std::vector<Recipe> IntegerRecipes() {
  std::vector<Recipe> all;
  const auto add = [&](IntegerSpec spec, const Method& method, bool signed_codes) {
    all.push_back({IntegerEncoding{spec, signed_codes}, &method});
  };
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {true, false}) {
      add({bits, symmetric, 0}, kNearest, true);
      add({bits, symmetric, 0, FloatType::kF16}, kNncf, symmetric);
      for (const std::size_t group_size : {16, 32, 64, 128, 256}) {
        add({bits, symmetric, group_size}, kNearest, false);
        add({bits, symmetric, group_size, FloatType::kF16}, kNncf, symmetric);
        for (const FloatType type : {FloatType::kF32, FloatType::kF16}) {
          const IntegerSpec spec = {bits, symmetric, group_size, type};
          for (const Method* method : {&kMlas, &kRtn}) add(spec, *method, false);
          if (!symmetric) add(spec, kKQuant, false);
          add(spec, kGather, true);
        }
      }
    }
  }
  return all;
}

// Every mode with all it can do.
inline std::vector<Recipe> MlxRecipes() {
  using enum MlxMode;
  std::vector<Recipe> all;
  for (const MlxRounding rounding : {MlxRounding::kCpu, MlxRounding::kMetal}) {
    const Method& method = MlxMethod(rounding);
    for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
      for (const int bits : {2, 3, 4, 5, 6, 8})
        for (const std::size_t group_size : {32, 64, 128})
          all.push_back({MlxEncoding{kAffine, bits, group_size, type}, &method});
      for (const MlxMode mode : {kMxfp4, kMxfp8, kNvfp4})
        all.push_back({MlxFloatEncoding(mode, type), &method});
    }
  }
  return all;
}

inline FloatType FloatTypeOf(const Encoding& encoding) {
  if (const auto* mlx = std::get_if<MlxEncoding>(&encoding)) return mlx->float_type;
  return std::get<IntegerEncoding>(encoding).spec.float_type;
}

// "Int4G32AsymRtnHalf", "Affine4G64MlxmetalBFloat"
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
  return name + std::string(kTypes[static_cast<std::size_t>(FloatTypeOf(recipe.encoding))]);
}

}  // namespace phiq
