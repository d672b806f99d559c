// From numbers to places on an axis.
#include "plot_scale.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace phiq::cli {
namespace {

// Ends so far out that their difference, or a little beyond them, would overflow.
constexpr double kLargest = 1e250, kSmallest = 1e-250;

// What an axis goes on beyond its values, as a part of their range: dots keep off the rim.
constexpr double kMargin = 0.05;

// The least of 1, 2, 5 and 10 times a power of ten that is not below `wanted`.
double RoundStep(double wanted) {
  const double power = std::pow(10.0, std::floor(std::log10(wanted)));
  for (const double factor : {1.0, 2.0, 5.0})
    // A hair less is enough: 0.2 / 0.1 is not quite 2.
    if (factor * power >= wanted * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

std::vector<double> Multiples(double step, double low, double high) {
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-6); i <= high / step + 1e-6; ++i)
    ticks.push_back(i * step + 0.0);  // + 0.0: no negative zero
  return ticks;
}

// The powers of ten from `low` to `high` times each factor; of more than nine powers only every
// second, third, ...
std::vector<double> PowersOfTen(double low, double high, std::initializer_list<double> factors) {
  // A hair outwards: the logarithm of a power of ten need not be whole.
  const int first = static_cast<int>(std::floor(std::log10(low) + 1e-9));
  const int last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
  const int stride = (last - first) / 9 + 1;
  // Among the multiples of the stride, so that 10^0 = 1 is one of them.
  const int begin = static_cast<int>(std::floor(static_cast<double>(first) / stride)) * stride;
  std::vector<double> ticks;
  for (int exponent = begin; exponent <= last; exponent += stride) {
    for (const double factor : factors) {
      const double tick = factor * std::pow(10.0, exponent);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
    }
  }
  return ticks;
}

template <typename Test>
std::pair<double, double> EndsOf(std::span<const double> values, Test is_shown) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double value : values) {
    if (!is_shown(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  assert(low <= high);
  return {low, high};
}

}  // namespace

Scale Scale::Linear(double low, double high) {
  low = std::clamp(low, -kLargest, kLargest);
  high = std::clamp(high, -kLargest, kLargest);
  // Numbers that differ in their last digits only are drawn as equal ones.
  if (high - low <= 1e-9 * std::max(std::abs(low), std::abs(high))) {
    const double around = low == 0 ? 1 : 0.1 * std::abs(low);
    low -= around;
    high += around;
  }
  Scale scale;
  const double margin = kMargin * (high - low);
  scale.low_ = low - margin;
  scale.high_ = high + margin;
  scale.ticks_ = Multiples(RoundStep((high - low) / 5), scale.low_, scale.high_);
  return scale;
}

Scale Scale::Log(double low, double high) {
  assert(0 < low && low <= high);
  low = std::clamp(low, kSmallest, kLargest);
  high = std::clamp(high, kSmallest, kLargest);
  if (high <= low * (1 + 1e-9)) {
    low /= 2;
    high *= 2;
  }
  Scale scale;
  scale.is_log_ = true;
  const double margin = std::pow(high, kMargin) / std::pow(low, kMargin);
  scale.low_ = low / margin;
  scale.high_ = high * margin;
  scale.ticks_ = PowersOfTen(scale.low_, scale.high_, {1.0});
  if (scale.ticks_.size() < 3) scale.ticks_ = PowersOfTen(scale.low_, scale.high_, {1.0, 2.0, 5.0});
  if (scale.ticks_.size() < 2)
    scale.ticks_ = Multiples(RoundStep((high - low) / 4), scale.low_, scale.high_);
  return scale;
}

Scale Scale::Decades(int first, int last) {
  assert(first < last);
  Scale scale;
  scale.is_log_ = true;
  scale.low_ = std::pow(10.0, first);
  scale.high_ = std::pow(10.0, last);
  scale.ticks_ = PowersOfTen(scale.low_, scale.high_, {1.0});
  return scale;
}

Scale Scale::LinearOver(std::span<const double> values) {
  const auto [low, high] = EndsOf(values, [](double v) { return std::isfinite(v); });
  return Linear(low, high);
}

Scale Scale::LogOver(std::span<const double> values) {
  const auto [low, high] = EndsOf(values, [](double v) { return std::isfinite(v) && v > 0; });
  return Log(low, high);
}

Scale Scale::Index(std::size_t n) {
  assert(n > 0);
  Scale scale;
  scale.low_ = -0.5;
  scale.high_ = static_cast<double>(n) - 0.5;
  scale.ticks_ = Multiples(std::max(1.0, RoundStep(static_cast<double>(n) / 8)), 0, scale.high_);
  return scale;
}

bool Scale::CanShow(double value) const noexcept {
  return std::isfinite(value) && (!is_log_ || value > 0);
}

double Scale::Fraction(double value) const noexcept {
  assert(CanShow(value));
  const double fraction =
      is_log_ ? (std::log10(value) - std::log10(low_)) / (std::log10(high_) - std::log10(low_))
              : (value - low_) / (high_ - low_);
  return std::clamp(fraction, 0.0, 1.0);
}

double LogHistogram::BinLow(std::size_t i) const {
  return std::pow(10.0, first_decade + static_cast<double>(i) / kBinsPerDecade);
}

LogHistogram CountByDecade(std::span<const float> values, int first_decade, int last_decade) {
  assert(first_decade < last_decade);
  LogHistogram histogram;
  histogram.first_decade = first_decade;
  const int n_bins = (last_decade - first_decade) * LogHistogram::kBinsPerDecade;
  histogram.counts.resize(static_cast<std::size_t>(n_bins));
  for (const float value : values) {
    if (!std::isfinite(value)) {
      ++histogram.n_not_finite;
      continue;
    }
    // Floats that stand for a power of ten may lie a rounding below it: 6e-8 of their size.
    const double place = value > 0
                             ? (std::log10(static_cast<double>(value)) + 1e-7 - first_decade) *
                                   LogHistogram::kBinsPerDecade
                             : -1;
    if (place < 0) {
      ++histogram.n_below;
    } else {
      ++histogram.counts[static_cast<std::size_t>(std::min(place, n_bins - 1.0))];
    }
  }
  return histogram;
}

}  // namespace phiq::cli
