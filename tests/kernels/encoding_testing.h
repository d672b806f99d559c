// What the tests of encodings share: rows to arrays and back, and their errors.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "phiq/encoding.h"

namespace phiq {

using Bytes = std::vector<std::byte>;

// The arrays of one row.
struct EncodedRow {
  EncodedRow(const Encoding& as, std::span<const float> x) : encoding(as), n(x.size()) {
    std::vector<std::span<std::byte>> spans;
    for (std::size_t i = 0; i < ArrayCount(encoding); ++i)
      arrays.emplace_back(ArrayRowBytes(encoding, i, n));
    for (Bytes& array : arrays) spans.emplace_back(array);
    RowCodec().Encode(encoding, x, spans);
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
inline std::vector<IntegerEncoding> IntegerEncodings() {
  using enum IntegerMethod;
  std::vector<IntegerEncoding> all;
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {true, false}) {
      all.push_back({{bits, symmetric, 0, kNearest}, true});
      all.push_back({{bits, symmetric, 0, kNncf, FloatType::kF16}, symmetric});
      for (const std::size_t group_size : {16, 32, 64, 128, 256}) {
        all.push_back({{bits, symmetric, group_size, kNearest}, false});
        all.push_back({{bits, symmetric, group_size, kNncf, FloatType::kF16}, symmetric});
        for (const IntegerMethod method : {kMlas, kRtn, kKQuant, kGather}) {
          for (const FloatType type : {FloatType::kF32, FloatType::kF16}) {
            if (method == kKQuant && symmetric) continue;  // the same as if it were not
            all.push_back({{bits, symmetric, group_size, method, type}, method == kGather});
          }
        }
      }
    }
  }
  return all;
}

// "Int4G32AsymRtnHalf"
inline std::string TestName(const IntegerEncoding& encoding) {
  constexpr std::string_view kMethods[] = {"Nearest", "Mlas", "Rtn", "KQuant", "Gather", "Nncf"};
  std::string name = EncodingName(encoding);
  name[0] = 'I';
  for (std::size_t i = 1; i < name.size(); ++i)
    if (name[i - 1] == ' ') name[i] = static_cast<char>(name[i] - 'a' + 'A');
  std::erase(name, ' ');
  name += kMethods[static_cast<std::size_t>(encoding.spec.method)];
  if (encoding.spec.float_type == FloatType::kF16) name += "Half";
  return name;
}

// Every mode with all it can do.
inline std::vector<MlxEncoding> MlxEncodings() {
  using enum MlxMode;
  std::vector<MlxEncoding> all;
  for (const MlxRounding rounding : {MlxRounding::kCpu, MlxRounding::kMetal}) {
    for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
      for (const int bits : {2, 3, 4, 5, 6, 8})
        for (const std::size_t group_size : {32, 64, 128})
          all.push_back({kAffine, bits, group_size, type, rounding});
      for (const MlxMode mode : {kMxfp4, kMxfp8, kNvfp4})
        all.push_back(MlxFloatEncoding(mode, type, rounding));
    }
  }
  return all;
}

// "Affine4g64BFloatMetal"
inline std::string TestName(const MlxEncoding& encoding) {
  constexpr std::string_view kTypes[] = {"Float", "Half", "BFloat"};
  std::string name = EncodingName(encoding);
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  std::erase(name, ' ');
  name += kTypes[static_cast<std::size_t>(encoding.float_type)];
  return name + (encoding.rounding == MlxRounding::kCpu ? "Cpu" : "Metal");
}

}  // namespace phiq
