// The matrix product, once for each instruction set.
//
// Lanes of vectors are neighbouring elements of a row of the result, never terms of a sum: neither
// their number nor the size of tiles changes a bit, so both may be what suits the processor.
#include "engine/product.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/product.cpp"
#include "kernels/simd/foreach_target.h"
// After the list of instruction sets:
#include "engine/vectors-inl.h"

#ifndef PHIQ_ENGINE_PRODUCT_CPP_
#define PHIQ_ENGINE_PRODUCT_CPP_
namespace phiq::engine {
namespace {

// Columns of b that are packed at once, 256 KiB: read again and again from the second-level cache.
constexpr std::size_t kPackedColumns = 256;

struct alignas(64) PackBuffer {
  float values[kPanelDepth * kPackedColumns];
};

// Of this thread.
float* Packed() {
  static thread_local const auto buffer = std::make_unique<PackBuffer>();
  return buffer->values;
}

}  // namespace
}  // namespace phiq::engine
#endif

HWY_BEFORE_NAMESPACE();
namespace phiq::engine {
namespace HWY_NAMESPACE {
namespace {

// A tile of the result stays in registers: 6 x 2 vectors in 12 of AVX2's 16, 8 x 2 in 16 of 32
// elsewhere; without fused multiply-add the registers are needed for that.
constexpr std::size_t kLanes = hn::MaxLanes(kF32);
constexpr std::size_t kTileVectors = 2;
constexpr std::size_t kTileColumns = kTileVectors * kLanes;
constexpr std::size_t kTileRows = !HWY_NATIVE_FMA ? 2 : HWY_TARGET == HWY_AVX2 ? 6 : 8;

template <Into kInto>
HWY_INLINE VF32 Merged(VF32 old, VF32 sum) {
  return kInto == Into::kAdd ? hn::Add(old, sum) : hn::Sub(old, sum);
}

// c[kRows, kTileColumns] (=, +=, -=) a[kRows, depth] * b; b: [depth, kTileColumns], packed.
template <std::size_t kRows, Into kInto>
HWY_NOINLINE void MultiplyTile(const float* HWY_RESTRICT a, std::size_t a_stride,
                               const float* HWY_RESTRICT b, std::size_t depth,
                               float* HWY_RESTRICT c, std::size_t c_stride) {
  VF32 sums[kRows][kTileVectors];
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t v = 0; v < kTileVectors; ++v) sums[r][v] = hn::Zero(kF32);
  const float* rows[kRows];
  for (std::size_t r = 0; r < kRows; ++r) rows[r] = a + r * a_stride;
  for (std::size_t k = 0; k < depth; ++k) {
    VF32 columns[kTileVectors];
    for (std::size_t v = 0; v < kTileVectors; ++v)
      columns[v] = hn::Load(kF32, b + k * kTileColumns + v * kLanes);
    for (std::size_t r = 0; r < kRows; ++r) {
      const VF32 x = hn::Set(kF32, rows[r][k]);
      for (std::size_t v = 0; v < kTileVectors; ++v) sums[r][v] = Fma(x, columns[v], sums[r][v]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < kTileVectors; ++v) {
      float* const out = c + r * c_stride + v * kLanes;
      if constexpr (kInto == Into::kReplace) {
        hn::StoreU(sums[r][v], kF32, out);
      } else {
        hn::StoreU(Merged<kInto>(hn::LoadU(kF32, out), sums[r][v]), kF32, out);
      }
    }
  }
}

// The same for 1 to kTileRows rows.
template <Into kInto, std::size_t... kRows>
HWY_INLINE void MultiplyRows(std::index_sequence<kRows...>, std::size_t n_rows, const float* a,
                             std::size_t a_stride, const float* b, std::size_t depth, float* c,
                             std::size_t c_stride) {
  using Tile = void (*)(const float*, std::size_t, const float*, std::size_t, float*, std::size_t);
  static constexpr Tile kTiles[] = {MultiplyTile<kRows + 1, kInto>...};
  kTiles[n_rows - 1](a, a_stride, b, depth, c, c_stride);
}

// 4 x 4 values, turned about their diagonal.
HWY_INLINE void Transpose4(const float* from, std::size_t stride, float* to,
                           std::size_t to_stride) {
#if HWY_TARGET == HWY_SCALAR
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 0; c < 4; ++c) to[c * to_stride + r] = from[r * stride + c];
#else
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> pairs;
  const auto r0 = hn::LoadU(d, from);
  const auto r1 = hn::LoadU(d, from + stride);
  const auto r2 = hn::LoadU(d, from + 2 * stride);
  const auto r3 = hn::LoadU(d, from + 3 * stride);
  const auto lower01 = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1));
  const auto upper01 = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1));
  const auto lower23 = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3));
  const auto upper23 = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, lower01, lower23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, lower01, lower23)), d, to + to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, upper01, upper23)), d, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, upper01, upper23)), d, to + 3 * to_stride);
#endif
}

// packed[depth, kTileColumns] = n_columns columns of b from one place on, the rest 0.
void PackTile(const Factor& b, std::size_t depth, std::size_t n_columns, float* packed) {
  if (n_columns < kTileColumns) std::fill_n(packed, depth * kTileColumns, 0.0F);
  if (!b.is_transposed) {
    for (std::size_t k = 0; k < depth; ++k)
      std::memcpy(packed + k * kTileColumns, b.data + k * b.stride, n_columns * sizeof(float));
    return;
  }
  std::size_t c = 0;
  for (; c + 4 <= n_columns; c += 4) {
    std::size_t k = 0;
    for (; k + 4 <= depth; k += 4)
      Transpose4(b.data + c * b.stride + k, b.stride, packed + k * kTileColumns + c, kTileColumns);
    for (; k < depth; ++k)
      for (std::size_t i = c; i < c + 4; ++i)
        packed[k * kTileColumns + i] = b.data[i * b.stride + k];
  }
  for (; c < n_columns; ++c)
    for (std::size_t k = 0; k < depth; ++k) packed[k * kTileColumns + c] = b.data[c * b.stride + k];
}

template <Into kInto>
void MultiplyPanel(const float* a, std::size_t a_stride, const Factor& b, std::size_t n_rows,
                   std::size_t n_columns, std::size_t depth, float* c, std::size_t c_stride) {
  constexpr auto kAllRows = std::make_index_sequence<kTileRows>();
  float* const packed = Packed();
  for (std::size_t first = 0; first < n_columns; first += kPackedColumns) {
    const std::size_t n_packed = std::min(kPackedColumns, n_columns - first);
    for (std::size_t tile = 0; tile < n_packed; tile += kTileColumns) {
      Factor columns = b;
      columns.data += b.is_transposed ? (first + tile) * b.stride : first + tile;
      PackTile(columns, depth, std::min(kTileColumns, n_packed - tile),
               packed + tile * kPanelDepth);
    }
    for (std::size_t r = 0; r < n_rows; r += kTileRows) {
      const std::size_t rows = std::min(kTileRows, n_rows - r);
      for (std::size_t tile = 0; tile < n_packed; tile += kTileColumns) {
        const std::size_t columns = std::min(kTileColumns, n_packed - tile);
        float* const out = c + r * c_stride + first + tile;
        const float* const tile_of_b = packed + tile * kPanelDepth;
        if (columns == kTileColumns) {
          MultiplyRows<kInto>(kAllRows, rows, a + r * a_stride, a_stride, tile_of_b, depth, out,
                              c_stride);
          continue;
        }
        float whole[kTileRows * kTileColumns] = {};
        for (std::size_t i = 0; i < rows; ++i)
          std::memcpy(whole + i * kTileColumns, out + i * c_stride, columns * sizeof(float));
        MultiplyRows<kInto>(kAllRows, rows, a + r * a_stride, a_stride, tile_of_b, depth, whole,
                            kTileColumns);
        for (std::size_t i = 0; i < rows; ++i)
          std::memcpy(out + i * c_stride, whole + i * kTileColumns, columns * sizeof(float));
      }
    }
  }
}

void Multiply(const float* a, std::size_t a_stride, const Factor& b, std::size_t n_rows,
              std::size_t n_columns, std::size_t depth, Into into, float* c, std::size_t c_stride) {
  for (std::size_t k = 0; k < depth; k += kPanelDepth) {
    const std::size_t panel = std::min(kPanelDepth, depth - k);
    Factor rest = b;
    rest.data += b.is_transposed ? k : k * b.stride;
    if (into == Into::kSubtract) {
      MultiplyPanel<Into::kSubtract>(a + k, a_stride, rest, n_rows, n_columns, panel, c, c_stride);
    } else if (into == Into::kAdd || k > 0) {
      MultiplyPanel<Into::kAdd>(a + k, a_stride, rest, n_rows, n_columns, panel, c, c_stride);
    } else {
      MultiplyPanel<Into::kReplace>(a + k, a_stride, rest, n_rows, n_columns, panel, c, c_stride);
    }
  }
}

}  // namespace
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace phiq::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq::engine {
HWY_EXPORT(Multiply);

void Multiply(const float* a, std::size_t a_stride, const Factor& b, std::size_t n_rows,
              std::size_t n_columns, std::size_t depth, Into into, float* c, std::size_t c_stride) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a, a_stride, b, n_rows, n_columns, depth, into, c, c_stride);
}

}  // namespace phiq::engine
#endif
