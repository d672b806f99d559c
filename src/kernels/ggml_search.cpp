// These loops define the answer: `simd` has the same in lanes and is tested against them.
#include "kernels/ggml_search.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/rounding.h"

namespace phiq {
namespace {

constexpr std::size_t kLongestRun = 32;

// Weighted sums of x * code and code * code; the best scale for the codes is xq / qq, and
// xq^2 / qq is what it takes off the error.
struct Fit {
  float xq = 0.0F;
  float qq = 0.0F;

  float Scale() const noexcept { return xq / qq; }
};

void RoundCodes(std::span<const float> x, float inv_scale, int lowest, int highest,
                std::span<int> codes) noexcept {
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = std::clamp(NearestInt(inv_scale * x[i]), lowest, highest);
  }
}

// An empty `weights` stands for x^2.
Fit FitCodes(std::span<const float> x, std::span<const float> weights,
             std::span<const int> codes) noexcept {
  Fit fit;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float weight = weights.empty() ? x[i] * x[i] : weights[i];
    const float q = static_cast<float>(codes[i]);
    fit.xq += weight * x[i] * q;
    fit.qq += weight * q * q;
  }
  return fit;
}

void StoreCodes(std::span<const int> from, int offset, std::span<std::uint8_t> to) noexcept {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<std::uint8_t>(from[i] + offset);
}

}  // namespace

float SignedExtreme(std::span<const float> x) noexcept {
  float amax = 0.0F;
  float extreme = 0.0F;
  for (const float v : x) {
    if (std::abs(v) > amax) {
      amax = std::abs(v);
      extreme = v;
    }
  }
  return extreme;
}

float SearchSymmetric(std::span<const float> x, std::span<const float> weights, int levels,
                      std::span<std::uint8_t> codes) noexcept {
  const float extreme = SignedExtreme(x);
  if (std::abs(extreme) < kNegligible) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return 0.0F;
  }
  std::array<int, kLongestRun> buffer;
  const std::span<int> trial = std::span(buffer).first(x.size());
  const float first_levels = static_cast<float>(levels);

  RoundCodes(x, -first_levels / extreme, -levels, levels - 1, trial);
  StoreCodes(trial, levels, codes);
  const Fit first = FitCodes(x, weights, trial);
  float scale = first.qq != 0.0F ? first.Scale() : 0.0F;
  float best_gain = scale * first.xq;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float inv_scale = -(first_levels + 0.1F * static_cast<float>(step)) / extreme;
    RoundCodes(x, inv_scale, -levels, levels - 1, trial);
    const Fit fit = FitCodes(x, weights, trial);
    if (fit.qq > 0.0F && fit.xq * fit.xq > best_gain * fit.qq) {
      StoreCodes(trial, levels, codes);
      scale = fit.Scale();
      best_gain = scale * fit.xq;
    }
  }
  return scale;
}

float DescendSymmetric(std::span<const float> x, int levels,
                       std::span<std::uint8_t> codes) noexcept {
  const float extreme = SignedExtreme(x);
  if (std::abs(extreme) < kNegligible) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return 0.0F;
  }
  std::array<int, kLongestRun> buffer;
  const std::span<int> q = std::span(buffer).first(x.size());

  RoundCodes(x, -static_cast<float>(levels) / extreme, -levels, levels - 1, q);
  Fit fit = FitCodes(x, {}, q);
  for (int pass = 0; pass < 5; ++pass) {
    bool changed = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float weight = x[i] * x[i];
      const float old_q = static_cast<float>(q[i]);
      const Fit without{fit.xq - weight * x[i] * old_q, fit.qq - weight * old_q * old_q};
      if (!(without.xq > 0.0F)) continue;
      const int best_q =
          std::clamp(NearestInt(x[i] * without.qq / without.xq), -levels, levels - 1);
      if (best_q == q[i]) continue;
      const float new_q = static_cast<float>(best_q);
      const Fit with{without.xq + weight * x[i] * new_q, without.qq + weight * new_q * new_q};
      if (with.qq > 0.0F && with.xq * with.xq * fit.qq > fit.xq * fit.xq * with.qq) {
        q[i] = best_q;
        fit = with;
        changed = true;
      }
    }
    if (!changed) break;
  }
  StoreCodes(q, levels, codes);
  return fit.qq > 0.0F ? fit.Scale() : 0.0F;
}

namespace {

// Here `min` is the value of code 0: x ~= scale * codes + min.
struct Line {
  float scale;
  float min;
};

void RoundCodes(std::span<const float> x, float inv_scale, float min, int last_code,
                std::span<int> codes) noexcept {
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = std::clamp(NearestInt(inv_scale * (x[i] - min)), 0, last_code);
  }
}

float LineError(std::span<const float> x, std::span<const float> weights,
                std::span<const int> codes, Line line, bool absolute_error) noexcept {
  float error = 0.0F;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float e = line.scale * static_cast<float>(codes[i]) + line.min - x[i];
    error += weights[i] * (absolute_error ? std::abs(e) : e * e);
  }
  return error;
}

}  // namespace

AffineFit SearchAffine(std::span<const float> x, std::span<const float> weights,
                       const AffineGrid& grid, std::span<std::uint8_t> codes) noexcept {
  float low = x[0];
  float high = x[0];
  float sum_w = weights[0];
  float sum_wx = weights[0] * x[0];
  for (std::size_t i = 1; i < x.size(); ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sum_w += weights[i];
    sum_wx += weights[i] * x[i];
  }
  if (low > 0.0F) low = 0.0F;
  if (high == low) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return {0.0F, -low};
  }
  std::array<int, kLongestRun> buffer;
  const std::span<int> trial = std::span(buffer).first(x.size());
  const float last_code = static_cast<float>(grid.last_code);

  const float first_inv = last_code / (high - low);
  Line best{1.0F / first_inv, low};
  RoundCodes(x, first_inv, low, grid.last_code, trial);
  StoreCodes(trial, 0, codes);
  float best_error = LineError(x, weights, trial, best, grid.absolute_error);
  for (int step = 0; step <= grid.last_step; ++step) {
    const float divisor = grid.first + grid.step * static_cast<float>(step) + last_code;
    // best.min, not low: an accepted candidate moves the grid of those after it.
    RoundCodes(x, divisor / (high - best.min), best.min, grid.last_code, trial);
    float sum_wq = 0.0F;
    float sum_wqq = 0.0F;
    float sum_wqx = 0.0F;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float q = static_cast<float>(trial[i]);
      sum_wq += weights[i] * q;
      sum_wqq += weights[i] * q * q;
      sum_wqx += weights[i] * q * x[i];
    }
    const float determinant = sum_w * sum_wqq - sum_wq * sum_wq;
    if (!(determinant > 0.0F)) continue;
    Line line{(sum_w * sum_wqx - sum_wx * sum_wq) / determinant,
              (sum_wqq * sum_wx - sum_wq * sum_wqx) / determinant};
    if (line.min > 0.0F) line = {sum_wqx / sum_wqq, 0.0F};
    const float error = LineError(x, weights, trial, line, grid.absolute_error);
    if (error < best_error) {
      best = line;
      best_error = error;
      StoreCodes(trial, 0, codes);
    }
  }
  return {best.scale, -best.min};
}

float SearchPositive(std::span<const float> x, std::span<const float> weights, int last_code,
                     std::span<std::uint8_t> codes) noexcept {
  const float high = std::max(0.0F, *std::max_element(x.begin(), x.end()));
  if (high < kNegligible) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return 0.0F;
  }
  const auto top = static_cast<float>(last_code);
  const auto code_of = [&](float v) { return std::min(last_code, NearestInt(v)); };
  const auto error_of = [&](float inv_scale) {
    const float scale = 1.0F / inv_scale;
    float error = 0.0F;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float e = x[i] - scale * static_cast<float>(code_of(inv_scale * x[i]));
      error += weights[i] * e * e;
    }
    return error;
  };
  float inv_scale = top / high;
  float best_error = error_of(inv_scale);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float candidate = (0.1F * static_cast<float>(step) + top) / high;
    const float error = error_of(candidate);
    if (error < best_error) {
      best_error = error;
      inv_scale = candidate;
    }
  }
  Fit fit;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int code = code_of(inv_scale * x[i]);
    codes[i] = static_cast<std::uint8_t>(code);
    fit.xq += weights[i] * x[i] * static_cast<float>(code);
    fit.qq += weights[i] * static_cast<float>(code) * static_cast<float>(code);
  }
  for (int pass = 0; pass < 5; ++pass) {
    bool changed = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float old_q = static_cast<float>(codes[i]);
      Fit moved{fit.xq - weights[i] * x[i] * old_q, fit.qq - weights[i] * old_q * old_q};
      if (!(moved.xq > 0.0F && moved.qq > 0.0F)) continue;
      const int code = code_of(x[i] * moved.qq / moved.xq);
      if (code == codes[i]) continue;
      const float new_q = static_cast<float>(code);
      moved.xq += weights[i] * x[i] * new_q;
      moved.qq += weights[i] * new_q * new_q;
      if (moved.xq * moved.xq * fit.qq > fit.xq * fit.xq * moved.qq) {
        codes[i] = static_cast<std::uint8_t>(code);
        fit = moved;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return fit.qq > 0.0F ? fit.Scale() : 0.0F;
}

}  // namespace phiq
