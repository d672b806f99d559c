// From numbers to places on an axis, and the ticks of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace phiq::cli {

// One axis: a range, linear or logarithmic, and round numbers in it.
class Scale {
 public:
  // From a little below `low` to a little above `high`; about five ticks, at multiples of 1, 2 or 5
  // times a power of ten. Equal ends are moved apart.
  static Scale Linear(double low, double high);

  // Ticks at powers of ten; at 1, 2 and 5 times these when fewer than three are in the range; at
  // even distances when that is too coarse as well. Requires 0 < low <= high.
  static Scale Log(double low, double high);

  // Logarithmic, from 10^first to 10^last exactly. Requires first < last.
  static Scale Decades(int first, int last);

  // Of the `values` that can be shown at all, at least one of which there must be.
  static Scale LinearOver(std::span<const double> values);
  static Scale LogOver(std::span<const double> values);

  // For things that are counted, 0 ... n - 1, each of them 1 wide; ticks at whole numbers.
  static Scale Index(std::size_t n);

  // Finite, and on a logarithmic scale above zero.
  bool CanShow(double value) const noexcept;

  // 0 at the low end and below, 1 at the high end and above. Requires CanShow.
  double Fraction(double value) const noexcept;

  double low() const noexcept { return low_; }
  double high() const noexcept { return high_; }
  const std::vector<double>& ticks() const noexcept { return ticks_; }

 private:
  bool is_log_ = false;
  double low_ = 0, high_ = 1;
  std::vector<double> ticks_;
};

// Counts by size, in bins of equal width on a logarithmic scale.
struct LogHistogram {
  // Bins that one power of ten is divided into.
  static constexpr int kBinsPerDecade = 10;

  int first_decade = 0;                // the first bin begins at 10^first_decade
  std::vector<std::uint64_t> counts;   // of each bin
  std::uint64_t n_below = 0;           // zero, or below the first bin
  std::uint64_t n_not_finite = 0;      // NaN and infinite ones
  double BinLow(std::size_t i) const;  // where bin i begins and the one before it ends
};

// `values` in bins from 10^first_decade up to 10^last_decade; those above are in the last bin.
LogHistogram CountByDecade(std::span<const float> values, int first_decade, int last_decade);

}  // namespace phiq::cli
