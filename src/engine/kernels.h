// The arithmetic of the forward pass: plain arrays in, plain arrays out.
//
// kernels_impl.cpp is compiled once for each instruction set, and the best one that the processor
// has is taken at run time. Sums run in another order on each, so results agree to rounding only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phiq::engine {

// Sums over some of the vocabulary, of one position.
struct LogitSums {
  float max_logit = 0;
  std::uint32_t best = 0;  // index of max_logit, the lowest of equal ones
  double sum_exp = 0;      // sum exp(logit - max_logit)
};

// What one query head of one text needs; rows of q, k, v and out are `stride` floats apart.
struct AttentionHead {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  std::size_t stride = 0;
  float* out = nullptr;
  std::size_t out_stride = 0;
  std::size_t n_positions = 0, head_dim = 0;
  std::size_t window = 0;  // how many tokens a token attends to, itself included
};

struct Kernels {
  std::string_view name;  // "x86-64-v3"

  // y = x * transposed(w).
  // Shapes    x: [n_rows, n_in], w: [n_out, n_in], y: [n_rows, n_out] with rows y_stride apart.
  void (*multiply)(const float* x, std::size_t n_rows, std::size_t n_in, const float* w,
                   std::size_t n_out, float* y, std::size_t y_stride);
  // Causal attention with scores / sqrt(head_dim).
  // Scratch   scores: [kQueryBlock * n_positions].
  void (*attend)(const AttentionHead& head, float* scores);
  // out = x / sqrt(mean(x^2) + epsilon) * weight, all [n].
  void (*rms_norm)(const float* x, const float* weight, float epsilon, std::size_t n, float* out);
  // Rotates the first 2 * n_pairs dimensions of a head in place: dimension i with i + n_pairs.
  void (*rotate)(float* head, const float* cosines, const float* sines, std::size_t n_pairs);
  // out = silu(gate) * up, all [n].
  void (*swiglu)(const float* gate, const float* up, std::size_t n, float* out);
  // x += y, both [n].
  void (*add)(float* x, const float* y, std::size_t n);
  // True when all of x is finite.
  bool (*all_finite)(const float* x, std::size_t n);
  // Sums of n >= 1 logits in double precision.
  LogitSums (*sum_logits)(const float* logits, std::size_t n);
  // sum exp(p - p_max) * (p - q) over n logits each.
  double (*sum_differences)(const float* p, float p_max, const float* q, std::size_t n);
};

inline constexpr std::size_t kQueryBlock = 64;

// Those of the best instruction set of this processor.
const Kernels& BestKernels() noexcept;
// All that this processor can run, the best one last.
std::span<const Kernels* const> RunnableKernels() noexcept;

}  // namespace phiq::engine
