// Compiled once for each instruction set (CMakeLists.txt), with PHIQ_ISA the set's identifier and
// PHIQ_ISA_NAME its name.
//
// Nothing that the linker might share with other files may be emitted here: it could then run on a
// processor without these instructions. So Eigen gets a namespace of its own, and inline functions
// of the standard library with a body of their own are avoided; tests/engine/no_shared_symbols
// checks it.
#define PHIQ_JOIN2(a, b) a##b
#define PHIQ_JOIN(a, b) PHIQ_JOIN2(a, b)
#define Eigen PHIQ_JOIN(Eigen_, PHIQ_ISA)
#define EIGEN_DONT_PARALLELIZE  // threads are ours
#define EIGEN_NO_DEBUG
#include <Eigen/Core>

#include "engine/kernels.h"

namespace phiq::engine {
namespace PHIQ_ISA {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<>;
using ConstMap = Eigen::Map<const RowMajor, 0, Stride>;
using Map = Eigen::Map<RowMajor, 0, Stride>;
using Array = Eigen::Map<Eigen::ArrayXf>;
using ConstArray = Eigen::Map<const Eigen::ArrayXf>;

Eigen::Index Index(std::size_t n) { return static_cast<Eigen::Index>(n); }

ConstMap Rows(const float* data, std::size_t n_rows, std::size_t n_columns, std::size_t stride) {
  return {data, Index(n_rows), Index(n_columns), Stride(Index(stride))};
}

void Multiply(const float* x, std::size_t n_rows, std::size_t n_in, const float* w,
              std::size_t n_out, float* y, std::size_t y_stride) {
  Map(y, Index(n_rows), Index(n_out), Stride(Index(y_stride))).noalias() =
      Rows(x, n_rows, n_in, n_in) * Rows(w, n_out, n_in, n_in).transpose();
}

void Attend(const AttentionHead& head, float* scores) {
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(head.head_dim));
  for (std::size_t first = 0; first < head.n_positions; first += kQueryBlock) {
    const std::size_t end =
        first + kQueryBlock < head.n_positions ? first + kQueryBlock : head.n_positions;
    // Keys that any query of the block attends to.
    const std::size_t first_key = first + 1 > head.window ? first + 1 - head.window : 0;
    const std::size_t n_queries = end - first;
    const std::size_t n_keys = end - first_key;
    Map block(scores, Index(n_queries), Index(n_keys), Stride(Index(n_keys)));
    block.noalias() =
        Rows(head.q + first * head.stride, n_queries, head.head_dim, head.stride) *
        Rows(head.k + first_key * head.stride, n_keys, head.head_dim, head.stride).transpose();
    for (std::size_t r = 0; r < n_queries; ++r) {
      const std::size_t query = first + r;
      const std::size_t begin = query + 1 > head.window ? query + 1 - head.window : 0;
      const std::size_t skipped = begin - first_key;
      const std::size_t n_seen = query + 1 - begin;
      float* row = scores + r * n_keys;
      Array seen(row + skipped, Index(n_seen));
      seen *= scale;
      seen = (seen - seen.maxCoeff()).exp();
      seen /= seen.sum();
      for (std::size_t i = 0; i < skipped; ++i) row[i] = 0;
      for (std::size_t i = skipped + n_seen; i < n_keys; ++i) row[i] = 0;
    }
    Map(head.out + first * head.out_stride, Index(n_queries), Index(head.head_dim),
        Stride(Index(head.out_stride)))
        .noalias() =
        block * Rows(head.v + first_key * head.stride, n_keys, head.head_dim, head.stride);
  }
}

void RmsNorm(const float* x, const float* weight, float epsilon, std::size_t n, float* out) {
  const ConstArray in(x, Index(n));
  const float mean_square = in.square().sum() / static_cast<float>(n);
  const float scale = 1.0F / __builtin_sqrtf(mean_square + epsilon);
  Array(out, Index(n)) = in * scale * ConstArray(weight, Index(n));
}

void Rotate(float* head, const float* cosines, const float* sines, std::size_t n_pairs) {
  for (std::size_t i = 0; i < n_pairs; ++i) {
    const float a = head[i];
    const float b = head[i + n_pairs];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + n_pairs] = b * cosines[i] + a * sines[i];
  }
}

void SwiGlu(const float* gate, const float* up, std::size_t n, float* out) {
  const ConstArray g(gate, Index(n));
  Array(out, Index(n)) = g / (1.0F + (-g).exp()) * ConstArray(up, Index(n));
}

void Add(float* x, const float* y, std::size_t n) { Array(x, Index(n)) += ConstArray(y, Index(n)); }

bool AllFinite(const float* x, std::size_t n) {
  // x - x is 0, or NaN for NaN and Inf; a sum of such is 0 or NaN.
  const ConstArray a(x, Index(n));
  return (a - a).sum() == 0.0F;
}

LogitSums SumLogits(const float* logits, std::size_t n) {
  const ConstArray l(logits, Index(n));
  LogitSums sums;
  sums.max_logit = l.maxCoeff();
  while (sums.best + 1 < n && logits[sums.best] != sums.max_logit) ++sums.best;
  sums.sum_exp = (l.cast<double>() - static_cast<double>(sums.max_logit)).exp().sum();
  return sums;
}

double SumDifferences(const float* p, float p_max, const float* q, std::size_t n) {
  const ConstArray a(p, Index(n));
  const ConstArray b(q, Index(n));
  return ((a.cast<double>() - static_cast<double>(p_max)).exp() *
          (a.cast<double>() - b.cast<double>()))
      .sum();
}

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {PHIQ_ISA_NAME, Multiply, Attend,    RmsNorm,   Rotate,
                          SwiGlu,        Add,      AllFinite, SumLogits, SumDifferences};

}  // namespace PHIQ_ISA
}  // namespace phiq::engine
