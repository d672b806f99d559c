// By tiles, so that neither side runs through memory in strides.
#include "kernels/transpose.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>

namespace phiq {
namespace {

// In tiles, so that both sides stay within the cache.
template <std::size_t element_bytes>
void TransposeTiles(const std::byte* in, std::size_t n_rows, std::size_t n_columns,
                    std::byte* out) noexcept {
  constexpr std::size_t kTile = 32;
  for (std::size_t r0 = 0; r0 < n_rows; r0 += kTile) {
    const std::size_t r1 = std::min(r0 + kTile, n_rows);
    for (std::size_t c0 = 0; c0 < n_columns; c0 += kTile) {
      const std::size_t c1 = std::min(c0 + kTile, n_columns);
      for (std::size_t c = c0; c < c1; ++c) {
        for (std::size_t r = r0; r < r1; ++r) {
          std::memcpy(out + (c * n_rows + r) * element_bytes,
                      in + (r * n_columns + c) * element_bytes, element_bytes);
        }
      }
    }
  }
}

}  // namespace

void Transpose(std::span<const std::byte> in, std::size_t n_rows, std::size_t n_columns,
               std::size_t element_bytes, std::span<std::byte> out) noexcept {
  assert(in.size() == n_rows * n_columns * element_bytes && out.size() == in.size());
  switch (element_bytes) {
    case 1:
      return TransposeTiles<1>(in.data(), n_rows, n_columns, out.data());
    case 2:
      return TransposeTiles<2>(in.data(), n_rows, n_columns, out.data());
    case 4:
      return TransposeTiles<4>(in.data(), n_rows, n_columns, out.data());
    default:
      assert(false);
  }
}

}  // namespace phiq
