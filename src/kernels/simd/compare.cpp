// Rows are compared in double, where the difference of two floats is exact or nearly so.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/compare.cpp"
#include "kernels/simd/compare.h"

#include <algorithm>
#include <cmath>

#include "kernels/simd/foreach_target.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

constexpr std::size_t kSums = 8;
struct EightSums {
  alignas(32) double squared_error[kSums] = {};
  alignas(32) double squared_a[kSums] = {};
  alignas(32) double squared_b[kSums] = {};
  alignas(32) double product[kSums] = {};
  alignas(32) double max_error[kSums] = {};

  void Add(float of_a, float of_b, std::size_t i) {
    const double x = of_a;
    const double y = of_b;
    const double error = std::abs(x - y);
    squared_error[i] += error * error;
    squared_a[i] += x * x;
    squared_b[i] += y * y;
    product[i] += x * y;
    max_error[i] = std::max(max_error[i], error);
  }
  simd::RowSums Total() const {
    simd::RowSums total;
    for (std::size_t i = 0; i < kSums; ++i)
      total.Add({squared_error[i], squared_a[i], squared_b[i], product[i], max_error[i]});
    return total;
  }
};

// Of a block: the largest weight and the largest error.
struct Largest {
  double weight = 0, error = 0;

  void Add(float of_a, float of_b) {
    weight = std::max(weight, std::abs(static_cast<double>(of_a)));
    error = std::max(error, std::abs(static_cast<double>(of_a) - static_cast<double>(of_b)));
  }
};

#if HWY_TARGET != HWY_SCALAR

using Doubles = hn::CappedTag<double, 4>;
using Singles = hn::Rebind<float, Doubles>;
using D = hn::Vec<Doubles>;
constexpr std::size_t kStep = hn::MaxLanes(Doubles());
constexpr std::size_t kVectors = kSums / kStep;

HWY_INLINE D LoadDoubles(const float* p) {
  return hn::PromoteTo(Doubles(), hn::LoadU(Singles(), p));
}

// As std::max: a NaN is not larger.
HWY_INLINE D LargerOf(D a, D b) { return hn::IfThenElse(hn::Lt(a, b), b, a); }

#endif

simd::RowSums CompareRows(std::span<const float> a, std::span<const float> b) {
  EightSums sums;
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  D squared_error[kVectors], squared_a[kVectors], squared_b[kVectors], product[kVectors];
  D max_error[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) {
    squared_error[v] = squared_a[v] = squared_b[v] = product[v] = max_error[v] =
        hn::Zero(Doubles());
  }
  for (; i + kSums <= a.size(); i += kSums) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const D x = LoadDoubles(a.data() + i + v * kStep);
      const D y = LoadDoubles(b.data() + i + v * kStep);
      const D error = hn::Abs(hn::Sub(x, y));
      squared_error[v] = hn::Add(squared_error[v], hn::Mul(error, error));
      squared_a[v] = hn::Add(squared_a[v], hn::Mul(x, x));
      squared_b[v] = hn::Add(squared_b[v], hn::Mul(y, y));
      product[v] = hn::Add(product[v], hn::Mul(x, y));
      max_error[v] = LargerOf(max_error[v], error);
    }
  }
  const auto store = [](const D* from, double* to) HWY_ATTR {
    for (std::size_t v = 0; v < kVectors; ++v) hn::Store(from[v], Doubles(), to + v * kStep);
  };
  store(squared_error, sums.squared_error);
  store(squared_a, sums.squared_a);
  store(squared_b, sums.squared_b);
  store(product, sums.product);
  store(max_error, sums.max_error);
#endif
  for (; i < a.size(); ++i) sums.Add(a[i], b[i], i % kSums);
  return sums.Total();
}

Largest LargestOf(std::span<const float> a, std::span<const float> b) {
  Largest largest;
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  D weights = hn::Zero(Doubles());
  D errors = weights;
  for (; i + kStep <= a.size(); i += kStep) {
    const D x = LoadDoubles(a.data() + i);
    weights = LargerOf(weights, hn::Abs(x));
    errors = LargerOf(errors, hn::Abs(hn::Sub(x, LoadDoubles(b.data() + i))));
  }
  largest.weight = hn::GetLane(hn::MaxOfLanes(Doubles(), weights));
  largest.error = hn::GetLane(hn::MaxOfLanes(Doubles(), errors));
#endif
  for (; i < a.size(); ++i) largest.Add(a[i], b[i]);
  return largest;
}

double WorstBlock(std::span<const float> a, std::span<const float> b, std::size_t block_size,
                  double slack) {
  double worst = 0;
  for (std::size_t begin = 0; begin < a.size(); begin += block_size) {
    const std::size_t size = std::min(block_size, a.size() - begin);
    const Largest largest = LargestOf(a.subspan(begin, size), b.subspan(begin, size));
    if (largest.error > slack) worst = std::max(worst, (largest.error - slack) / largest.weight);
  }
  return worst;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(CompareRows);
HWY_EXPORT(WorstBlock);
}  // namespace

namespace simd {

void RowSums::Add(const RowSums& other) noexcept {
  squared_error += other.squared_error;
  squared_a += other.squared_a;
  squared_b += other.squared_b;
  product += other.product;
  max_error = std::max(max_error, other.max_error);
}

RowSums CompareRows(std::span<const float> a, std::span<const float> b) {
  return HWY_DYNAMIC_DISPATCH(CompareRows)(a, b);
}

double WorstBlock(std::span<const float> a, std::span<const float> b, std::size_t block_size,
                  double slack) {
  return HWY_DYNAMIC_DISPATCH(WorstBlock)(a, b, block_size, slack);
}

}  // namespace simd
}  // namespace phiq
#endif
