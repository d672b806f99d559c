// Blocks of GGUF types by the plain loops: what every vector kernel must give, bit for bit, and
// what takes the blocks that it leaves alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

#include "kernels/float_type.h"
#include "kernels/ggml_blocks.h"
#include "kernels/simd/weights.h"

namespace phiq {

inline constexpr Half kInfiniteHalf = 0x7C00;

// A search sums cubes of weights, and once those overflow it may settle on a scale of 0. No block
// with a search can hold more than 2.7e8 (127 * 32 * 65504), and up to 1e12 the sums are safe.
inline constexpr float kLargestSearched = 1e9F;
inline bool IsSearchable(std::span<const float> x) noexcept {
  return std::none_of(x.begin(), x.end(), [](float v) { return std::abs(v) > kLargestSearched; });
}

template <typename Block>
constexpr bool kSearches = Block::kSize == 256 || std::is_same_v<Block, BlockIQ4_NL>;

template <typename Block>
void EncodeSafely(BlockWeights<Block> x, Block& block) noexcept {
  if constexpr (kSearches<Block>) {
    if (!IsSearchable(x)) {
      block.d = kInfiniteHalf;
      return;
    }
  }
  EncodeBlock(x, block);
}

template <typename Block>
void EncodePlain(std::span<const float> x, std::span<std::byte> out) noexcept {
  for (std::size_t b = 0; b < x.size() / Block::kSize; ++b) {
    Block block{};
    EncodeSafely(x.subspan(b * Block::kSize).template first<Block::kSize>(), block);
    std::memcpy(out.data() + b * sizeof(Block), &block, sizeof(Block));
  }
}

// One row, under an importance matrix. Types that have no use for one are encoded as without it.
template <typename Block>
void EncodePlainWith(std::span<const float> importance, std::span<const float> x,
                     std::span<std::byte> out) noexcept {
  if constexpr (requires(BlockWeights<Block> w, Importance i, Block b) { EncodeBlock(w, i, b); }) {
    float sum_of_squares = 0.0F;
    for (const float v : x) sum_of_squares += v * v;
    const float row_mean_square = sum_of_squares / static_cast<float>(x.size());
    for (std::size_t b = 0; b < x.size() / Block::kSize; ++b) {
      Block block{};
      const auto weights = x.subspan(b * Block::kSize).template first<Block::kSize>();
      if (IsSearchable(weights)) {
        EncodeBlock(weights, Importance{importance.data() + b * Block::kSize, row_mean_square},
                    block);
      } else {
        block.d = kInfiniteHalf;
      }
      std::memcpy(out.data() + b * sizeof(Block), &block, sizeof(Block));
    }
  } else {
    EncodePlain<Block>(x, out);
  }
}

// As a kernel takes them, on processors that no vector kernel is made for.
template <typename Block>
void EncodePlain(const Weights& x, std::size_t n_blocks, std::byte* out) noexcept {
  if (x.type == FloatType::kF32) {
    const float* const first = reinterpret_cast<const float*>(x.data);
    return EncodePlain<Block>({first, n_blocks * Block::kSize}, {out, n_blocks * sizeof(Block)});
  }
  float floats[Block::kSize];
  for (std::size_t b = 0; b < n_blocks; ++b) {
    for (std::size_t i = 0; i < Block::kSize; ++i)
      floats[i] = LoadFloat(x.type, {x.data, (b + 1) * Block::kSize * FloatBytes(x.type)},
                            b * Block::kSize + i);
    EncodePlain<Block>(floats, {out + b * sizeof(Block), sizeof(Block)});
  }
}

}  // namespace phiq
