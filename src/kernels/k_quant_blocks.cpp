// kKQuant: what quant_tensor_k_quant_cpu of onnxruntime's weight_only.py stores, bit
// for bit; a relative of GGUF's SearchAffine (ggml_search.cpp).
#include <cassert>
#include <cmath>

#include "kernels/rtn_blocks.h"

namespace phiq {
namespace {

constexpr int kTrials = 20;
constexpr std::size_t kLanes = 8;

using Values = float[kMaxGroupSize];

// Adds in numpy's order: eight running sums, folded in pairs; more than 128 terms in two halves.
float Sum(const float* terms, std::size_t n) noexcept {
  if (n > 128) return Sum(terms, n / 2) + Sum(terms + n / 2, n / 2);
  float sums[kLanes];
  std::copy_n(terms, kLanes, sums);
  for (std::size_t i = kLanes; i < n; i += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) sums[j] += terms[i + j];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// The search for scale and min in  x ~= scale * q + min  with the least weighted squared error.
//
// Where numbers overflow or D is 0, NaNs arise and lose every comparison, as they do in numpy; so
// the ternaries below let NaN pass.
class Search {
 public:
  Search(std::span<const float> x, float last_code) noexcept
      : x_(x.data()), n_(x.size()), last_code_(last_code) {
    for (std::size_t c = 0; c < n_; ++c) terms_[c] = x_[c] * x_[c];
    const float average = std::sqrt(Sum(terms_, n_) / static_cast<float>(n_));
    for (std::size_t c = 0; c < n_; ++c) {
      weights_[c] = average + std::abs(x_[c]);
      terms_[c] = weights_[c] * x_[c];
    }
    sum_w_ = Sum(weights_, n_);
    sum_x_ = Sum(terms_, n_);
  }

  void Run() noexcept {
    const Range range = RangeOf({x_, n_});
    min_ = range.low;
    float inv_scale = InverseScale(last_code_, range.high);
    scale_ = 1.0F / inv_scale;
    Encode(inv_scale);
    float least = Error(scale_, min_);
    for (int trial = 0; trial < kTrials; ++trial) {
      const double steps = -1.0 + 0.1 * trial + static_cast<double>(last_code_);
      inv_scale = InverseScale(static_cast<float>(steps), range.high);
      Encode(inv_scale);  // from the min of the best trial so far
      const auto [scale, min] = LeastSquares();
      const float error = Error(scale, min);
      if (error < least) {
        least = error;
        scale_ = scale;
        min_ = min;
      }
    }
  }

  float scale() const noexcept { return scale_; }
  float min() const noexcept { return min_; }

 private:
  struct Line {
    float scale;
    float min;
  };

  float InverseScale(float steps, float high) const noexcept {
    return min_ != high ? steps / (high - min_) : 1.0F;
  }

  void Encode(float inv_scale) noexcept {
    for (std::size_t c = 0; c < n_; ++c) {
      const float v = inv_scale * (x_[c] - min_);
      const float low = v < 0.0F ? 0.0F : v;
      const float cut = low > last_code_ ? last_code_ : low;
      codes_[c] = (cut + 12582912.0F) - 12582912.0F;  // 1.5 * 2^23: to nearest, ties to even
    }
  }

  // Of the codes as they are.
  Line LeastSquares() noexcept {
    Values squares;
    Values products;
    for (std::size_t c = 0; c < n_; ++c) {
      terms_[c] = weights_[c] * codes_[c];
      squares[c] = terms_[c] * codes_[c];
      products[c] = terms_[c] * x_[c];
    }
    const float sum_q = Sum(terms_, n_);
    const float sum_qq = Sum(squares, n_);
    const float sum_xq = Sum(products, n_);
    const float d = sum_w_ * sum_qq - sum_q * sum_q;
    return {(sum_w_ * sum_xq - sum_x_ * sum_q) / d, (sum_qq * sum_x_ - sum_q * sum_xq) / d};
  }

  float Error(float scale, float min) noexcept {
    for (std::size_t c = 0; c < n_; ++c) {
      const float difference = (scale * codes_[c] + min) - x_[c];
      terms_[c] = weights_[c] * (difference * difference);
    }
    return Sum(terms_, n_);
  }

  const float* x_;
  std::size_t n_;
  float last_code_;
  float sum_w_, sum_x_;
  float scale_ = 0.0F, min_ = 0.0F;
  Values weights_, codes_, terms_;
};

}  // namespace

GroupScale QuantizeKQuant(const GroupSpec& spec, std::span<const float> x,
                          std::span<std::uint8_t> codes) noexcept {
  assert(x.size() <= kMaxGroupSize && x.size() % (2 * kLanes) == 0);
  const int last_code = LastCode(spec);
  Search search(x, static_cast<float>(last_code));
  search.Run();
  const std::uint8_t zero_point =
      RoundToEvenCode(-search.min() / search.scale(), static_cast<float>(last_code));
  EncodeInDouble(x, static_cast<double>(search.scale()), zero_point, last_code, codes);
  return {RoundTo(spec.scale, search.scale()), zero_point};
}

}  // namespace phiq
