// A lane is a row: no sum crosses lanes. Which code is nearest is what Nearest of kernels/grid.h
// says, to the bit.
#include "calibrate/feedback_chunk.h"

#include <cstddef>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "calibrate/feedback_chunk.cpp"
#include "kernels/simd/foreach_target.h"
// After the list of instruction sets:
#include "engine/vectors-inl.h"
#include "kernels/simd/levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq::calibrate {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using engine::HWY_NAMESPACE::Fma;
using engine::HWY_NAMESPACE::kF32;
using phiq::HWY_NAMESPACE::levels::Inverse;
using phiq::HWY_NAMESPACE::levels::kLanes;
using phiq::HWY_NAMESPACE::levels::NearestLevel;
using phiq::HWY_NAMESPACE::levels::Set;
using Vector = engine::HWY_NAMESPACE::VF32;

// Vectors side by side: each column waits for the one before, and two chains keep units busy.
constexpr std::size_t kSide = 2;
constexpr std::size_t kWidth = kLanes * kSide;
static_assert(kChunkRows % kWidth == 0);

HWY_INLINE Vector Load(const float* p) { return hn::Load(kF32, p); }
HWY_INLINE void Store(Vector v, float* p) { hn::Store(v, kF32, p); }

// The errors of one candidate for kWidth rows from `row` on; loss: their sums of squares.
template <Levels kLevels>
HWY_INLINE void Run(Chunk& chunk, std::size_t row, const Vector (&scale)[kSide],
                    const Vector (&offset)[kSide], Vector (&loss)[kSide]) {
  const std::size_t n = chunk.n_columns;
  alignas(64) float w[kChunkColumns][kWidth];
  for (std::size_t j = 0; j < n; ++j) std::memcpy(w[j], chunk.weights[j] + row, sizeof(w[j]));
  Vector inverse[kSide], low[kSide], high[kSide];
  for (std::size_t s = 0; s < kSide; ++s) {
    inverse[s] = Inverse(scale[s]);
    low[s] = hn::Neg(Load(chunk.zeros + row + s * kLanes));
    high[s] = hn::Add(low[s], Set(chunk.last_code));
    loss[s] = hn::Zero(kF32);
  }
  for (std::size_t j = 0; j < n; ++j) {
    Vector minus_e[kSide];
    for (std::size_t s = 0; s < kSide; ++s) {
      const Vector x = Load(w[j] + s * kLanes);
      const auto coded =
          NearestLevel<kLevels>(hn::Mul(hn::Sub(x, offset[s]), inverse[s]), low[s], high[s]);
      const Vector value = hn::Add(hn::Mul(scale[s], coded.level), offset[s]);
      const Vector e = hn::Div(hn::Sub(x, value), Set(chunk.diagonal[j]));
      Store(coded.code, chunk.codes[j] + row + s * kLanes);
      Store(e, chunk.errors[j] + row + s * kLanes);
      loss[s] = Fma(e, e, loss[s]);
      minus_e[s] = hn::Neg(e);
    }
    for (std::size_t k = j + 1; k < n; ++k) {
      const Vector u = Set(chunk.u[j][k]);
      for (std::size_t s = 0; s < kSide; ++s)
        Store(Fma(minus_e[s], u, Load(w[k] + s * kLanes)), w[k] + s * kLanes);
    }
  }
}

template <Levels kLevels>
void Feed(Chunk& chunk) {
  for (std::size_t row = 0; row < chunk.n_rows; row += kWidth) {
    Vector scale[kSide], offset[kSide], loss[kSide], least[kSide], chosen[kSide];
    const auto load = [&](std::size_t candidate) {
      for (std::size_t s = 0; s < kSide; ++s) {
        scale[s] = Load(chunk.scales[candidate] + row + s * kLanes);
        offset[s] = Load(chunk.offsets[candidate] + row + s * kLanes);
      }
    };
    load(0);
    Run<kLevels>(chunk, row, scale, offset, least);
    Vector best_scale[kSide], best_offset[kSide];
    for (std::size_t s = 0; s < kSide; ++s) {
      chosen[s] = hn::Zero(kF32);
      best_scale[s] = scale[s];
      best_offset[s] = offset[s];
    }
    for (std::size_t candidate = 1; candidate < chunk.n_candidates; ++candidate) {
      load(candidate);
      Run<kLevels>(chunk, row, scale, offset, loss);
      for (std::size_t s = 0; s < kSide; ++s) {
        const auto is_less = hn::Lt(loss[s], least[s]);
        least[s] = hn::IfThenElse(is_less, loss[s], least[s]);
        best_scale[s] = hn::IfThenElse(is_less, scale[s], best_scale[s]);
        best_offset[s] = hn::IfThenElse(is_less, offset[s], best_offset[s]);
        chosen[s] = hn::IfThenElse(is_less, Set(static_cast<float>(candidate)), chosen[s]);
      }
    }
    if (chunk.n_candidates > 1) Run<kLevels>(chunk, row, best_scale, best_offset, least);
    for (std::size_t s = 0; s < kSide; ++s) {
      Store(chosen[s], chunk.chosen + row + s * kLanes);
      Store(least[s], chunk.loss + row + s * kLanes);
    }
  }
}

void FeedThrough(Chunk& chunk) {
  switch (chunk.levels) {
    case Levels::kIntegers:
      return Feed<Levels::kIntegers>(chunk);
    case Levels::kIq4:
      return Feed<Levels::kIq4>(chunk);
    case Levels::kE2m1:
      return Feed<Levels::kE2m1>(chunk);
    case Levels::kE4m3:
      return Feed<Levels::kE4m3>(chunk);
  }
}

}  // namespace
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace phiq::calibrate
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq::calibrate {
HWY_EXPORT(FeedThrough);

void FeedThrough(Chunk& chunk) { HWY_DYNAMIC_DISPATCH(FeedThrough)(chunk); }

}  // namespace phiq::calibrate
#endif
