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

}  // namespace phiq
