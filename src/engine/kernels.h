// The arithmetic of the forward pass: plain arrays in, plain arrays out.
//
// Every function gives the same bits on every instruction set, of which the best that the processor
// has is taken at run time; what is summed in which order is said in vectors-inl.h and product.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace phiq::engine {

// Sums over some of the vocabulary, of one position.
struct LogitSums {
  float max_logit = 0;
  std::uint32_t best = 0;  // index of max_logit, the lowest of equal ones
  double sum_exp = 0;      // sum exp(logit - max_logit)
};

// What one query head of one text needs; rows of q, k and v are `stride` floats apart. Queries are
// those of the positions from `first_query` on: q and out begin with it, k and v with position 0.
struct AttentionHead {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  std::size_t stride = 0;
  float* out = nullptr;
  std::size_t out_stride = 0;
  std::size_t n_positions = 0, head_dim = 0;
  std::size_t first_query = 0;
  std::size_t window = 0;  // how many tokens a token attends to, itself included
};

inline constexpr std::size_t kQueryBlock = 64;

// Causal attention with scores / sqrt(head_dim). Where all positions are attended to, the bits do
// not depend on how queries are shared out over calls.
// Scratch   scores: [kQueryBlock * n_positions].
void Attend(const AttentionHead& head, float* scores);
// out = x / sqrt(mean(x^2) + epsilon) * weight, all [n].
void RmsNorm(const float* x, const float* weight, float epsilon, std::size_t n, float* out);
// out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * weight + bias, all [n].
void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, std::size_t n,
               float* out);
// Rotates the first 2 * n_pairs dimensions of a head in place: dimension i with i + n_pairs.
void Rotate(float* head, const float* cosines, const float* sines, std::size_t n_pairs);
// out = silu(gate) * up, all [n].
void SwiGlu(const float* gate, const float* up, std::size_t n, float* out);
// x += factor * y, both [n].
void AddScaled(float* x, float factor, const float* y, std::size_t n);
// x += y, both [n].
void Add(float* x, const float* y, std::size_t n);
// True when all of x is finite.
bool AllFinite(const float* x, std::size_t n);
// Sums of n >= 1 finite logits in double precision.
LogitSums SumLogits(const float* logits, std::size_t n);
// sum exp(p - p_max) * (p - q) over n finite logits each, in double precision.
double SumDifferences(const float* p, float p_max, const float* q, std::size_t n);

// The exponential of Attend and SwiGlu, of n numbers: within 1.5 units in the last place; 0 and
// infinity beyond float's range, NaN for NaN.
void Exponentials(const float* x, std::size_t n, float* out);

}  // namespace phiq::engine
