// The kernels of the forward pass but for the matrix product, once for each instruction set.
#include "engine/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels.cpp"
#include "kernels/simd/foreach_target.h"
// After the list of instruction sets:
#include "engine/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq::engine {
namespace HWY_NAMESPACE {
namespace {

float LargestOf(const float* x, std::size_t n) {
  constexpr std::size_t kLanes = hn::MaxLanes(kF32);
  float largest = x[0];
  std::size_t i = 0;
  if (n >= kLanes) {
    auto lanes = hn::LoadU(kF32, x);
    for (i = kLanes; i + kLanes <= n; i += kLanes) lanes = hn::Max(lanes, hn::LoadU(kF32, x + i));
    largest = hn::GetLane(hn::MaxOfLanes(kF32, lanes));
  }
  for (; i < n; ++i) largest = std::max(largest, x[i]);
  return largest;
}

// row = softmax(row * scale)
void Softmax(float* row, std::size_t n, float scale) {
  const auto factor = hn::Set(kF32, scale);
  const auto largest = hn::Set(kF32, LargestOf(row, n) * scale);
  Map(
      n, row, [&](VF32 x) { return Exp(hn::Sub(hn::Mul(x, factor), largest)); }, row);
  const auto add = [](VF32 sum, VF32 x) { return hn::Add(sum, x); };
  const auto sum = hn::Set(kF32, SumOf(kF32, n, add, row));
  Map(
      n, row, [&](VF32 x) { return hn::Div(x, sum); }, row);
}

void Attend(const AttentionHead& head, float* scores) {
  const float scale = 1.0F / std::sqrt(static_cast<float>(head.head_dim));
  for (std::size_t first = head.first_query; first < head.n_positions; first += kQueryBlock) {
    const std::size_t end = std::min(first + kQueryBlock, head.n_positions);
    // Keys that any query of the block attends to.
    const std::size_t first_key = first + 1 > head.window ? first + 1 - head.window : 0;
    const std::size_t n_queries = end - first;
    const std::size_t n_done = first - head.first_query;
    const std::size_t n_keys = end - first_key;
    const Factor keys = {head.k + first_key * head.stride, head.stride, true};
    Multiply(head.q + n_done * head.stride, head.stride, keys, n_queries, n_keys, head.head_dim,
             Into::kReplace, scores, n_keys);
    for (std::size_t r = 0; r < n_queries; ++r) {
      const std::size_t query = first + r;
      const std::size_t begin = query + 1 > head.window ? query + 1 - head.window : 0;
      float* const row = scores + r * n_keys;
      float* const seen = row + (begin - first_key);
      const std::size_t n_seen = query + 1 - begin;
      Softmax(seen, n_seen, scale);
      std::fill(row, seen, 0.0F);
      std::fill(seen + n_seen, row + n_keys, 0.0F);
    }
    const Factor values = {head.v + first_key * head.stride, head.stride, false};
    Multiply(scores, n_keys, values, n_queries, head.head_dim, n_keys, Into::kReplace,
             head.out + n_done * head.out_stride, head.out_stride);
  }
}

void RmsNorm(const float* x, const float* weight, float epsilon, std::size_t n, float* out) {
  const auto add_square = [](VF32 sum, VF32 v) { return Fma(v, v, sum); };
  const float mean_square = SumOf(kF32, n, add_square, x) / static_cast<float>(n);
  const auto scale = hn::Set(kF32, 1.0F / std::sqrt(mean_square + epsilon));
  Map(
      n, out, [&](VF32 v, VF32 w) { return hn::Mul(hn::Mul(v, scale), w); }, x, weight);
}

void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, std::size_t n,
               float* out) {
  const auto add = [](VF32 sum, VF32 v) { return hn::Add(sum, v); };
  const auto mean = hn::Set(kF32, SumOf(kF32, n, add, x) / static_cast<float>(n));
  Map(
      n, out, [&](VF32 v) { return hn::Sub(v, mean); }, x);
  const auto add_square = [](VF32 sum, VF32 v) { return Fma(v, v, sum); };
  const float variance = SumOf(kF32, n, add_square, out) / static_cast<float>(n);
  const auto scale = hn::Set(kF32, 1.0F / std::sqrt(variance + epsilon));
  Map(
      n, out, [&](VF32 v, VF32 w, VF32 b) { return hn::Add(hn::Mul(hn::Mul(v, scale), w), b); },
      out, weight, bias);
}

void Rotate(float* head, const float* cosines, const float* sines, std::size_t n_pairs) {
  constexpr std::size_t kLanes = hn::MaxLanes(kF32);
  for (std::size_t i = 0; i < n_pairs; i += kLanes) {
    const std::size_t n = std::min(kLanes, n_pairs - i);
    float a[kLanes] = {};
    float b[kLanes] = {};
    std::memcpy(a, head + i, n * sizeof(float));
    std::memcpy(b, head + n_pairs + i, n * sizeof(float));
    Map(
        n, head + i,
        [](VF32 x, VF32 y, VF32 cosine, VF32 sine) {
          return Fma(x, cosine, hn::Neg(hn::Mul(y, sine)));
        },
        a, b, cosines + i, sines + i);
    Map(
        n, head + n_pairs + i,
        [](VF32 x, VF32 y, VF32 cosine, VF32 sine) { return Fma(y, cosine, hn::Mul(x, sine)); }, a,
        b, cosines + i, sines + i);
  }
}

void SwiGlu(const float* gate, const float* up, std::size_t n, float* out) {
  const auto one = hn::Set(kF32, 1.0F);
  Map(
      n, out, [&](VF32 g, VF32 u) { return hn::Mul(hn::Div(g, hn::Add(one, Exp(hn::Neg(g)))), u); },
      gate, up);
}

void AddScaled(float* x, float factor, const float* y, std::size_t n) {
  const auto f = hn::Set(kF32, factor);
  Map(
      n, x, [&](VF32 a, VF32 b) { return hn::Add(a, hn::Mul(f, b)); }, x, y);
}

void Add(float* x, const float* y, std::size_t n) {
  Map(
      n, x, [](VF32 a, VF32 b) { return hn::Add(a, b); }, x, y);
}

bool AllFinite(const float* x, std::size_t n) {
  // x - x is 0, or NaN for NaN and Inf; a sum of such is 0 or NaN.
  const auto add = [](VF32 sum, VF32 v) { return hn::Add(sum, hn::Sub(v, v)); };
  return SumOf(kF32, n, add, x) == 0.0F;
}

LogitSums SumLogits(const float* logits, std::size_t n) {
  LogitSums sums;
  sums.max_logit = LargestOf(logits, n);
  sums.best = static_cast<std::uint32_t>(std::find(logits, logits + n, sums.max_logit) - logits);
  const auto largest = hn::Set(kF64, static_cast<double>(sums.max_logit));
  const auto add = [&](VF64 sum, VF64 logit) { return hn::Add(sum, Exp(hn::Sub(logit, largest))); };
  sums.sum_exp = SumOf(kF64, n, add, logits);
  return sums;
}

double SumDifferences(const float* p, float p_max, const float* q, std::size_t n) {
  const auto largest = hn::Set(kF64, static_cast<double>(p_max));
  const auto add = [&](VF64 sum, VF64 a, VF64 b) {
    return hn::Add(sum, hn::Mul(Exp(hn::Sub(a, largest)), hn::Sub(a, b)));
  };
  return SumOf(kF64, n, add, p, q);
}

void Exponentials(const float* x, std::size_t n, float* out) {
  Map(
      n, out, [](VF32 v) { return Exp(v); }, x);
}

}  // namespace
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace phiq::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq::engine {
HWY_EXPORT(Attend);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(Rotate);
HWY_EXPORT(SwiGlu);
HWY_EXPORT(AddScaled);
HWY_EXPORT(Add);
HWY_EXPORT(AllFinite);
HWY_EXPORT(SumLogits);
HWY_EXPORT(SumDifferences);
HWY_EXPORT(Exponentials);

void Attend(const AttentionHead& head, float* scores) {
  HWY_DYNAMIC_DISPATCH(Attend)(head, scores);
}
void RmsNorm(const float* x, const float* weight, float epsilon, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, epsilon, n, out);
}
void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, std::size_t n,
               float* out) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, weight, bias, epsilon, n, out);
}
void Rotate(float* head, const float* cosines, const float* sines, std::size_t n_pairs) {
  HWY_DYNAMIC_DISPATCH(Rotate)(head, cosines, sines, n_pairs);
}
void SwiGlu(const float* gate, const float* up, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SwiGlu)(gate, up, n, out);
}
void AddScaled(float* x, float factor, const float* y, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(AddScaled)(x, factor, y, n);
}
void Add(float* x, const float* y, std::size_t n) { HWY_DYNAMIC_DISPATCH(Add)(x, y, n); }
bool AllFinite(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(AllFinite)(x, n); }
LogitSums SumLogits(const float* logits, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(SumLogits)(logits, n);
}
double SumDifferences(const float* p, float p_max, const float* q, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(SumDifferences)(p, p_max, q, n);
}
void Exponentials(const float* x, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(Exponentials)(x, n, out);
}

}  // namespace phiq::engine
#endif
