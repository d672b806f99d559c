// The blocks of GGUF tensor data as they lie on disk (little-endian), and the two functions every
// block has. Formulas and byte offsets: docs/quantization.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/half.h"

namespace phiq {

using Half = std::uint16_t;  // IEEE binary16 bits

struct BlockF32 {
  static constexpr std::size_t kSize = 1;
  float x;
};
struct BlockF16 {
  static constexpr std::size_t kSize = 1;
  Half x;
};
struct BlockBF16 {
  static constexpr std::size_t kSize = 1;
  std::uint16_t x;
};

// Blocks of 32. In `q`, byte i holds the codes of elements i (low nibble) and i + 16 (high nibble).
struct BlockQ8_0 {  // x = d * q
  static constexpr std::size_t kSize = 32;
  Half d;
  std::int8_t q[32];
};
struct BlockQ4_0 {  // x = d * (q - 8)
  static constexpr std::size_t kSize = 32;
  Half d;
  std::uint8_t q[16];
};
struct BlockQ4_1 {  // x = d * q + m
  static constexpr std::size_t kSize = 32;
  Half d;
  Half m;
  std::uint8_t q[16];
};
struct BlockQ5_0 {  // x = d * (q - 16); bit 4 of code e is bit e of qh
  static constexpr std::size_t kSize = 32;
  Half d;
  std::uint8_t qh[4];
  std::uint8_t q[16];
};
struct BlockQ5_1 {  // x = d * q + m; bit 4 of code e is bit e of qh
  static constexpr std::size_t kSize = 32;
  Half d;
  Half m;
  std::uint8_t qh[4];
  std::uint8_t q[16];
};
struct BlockIQ4_NL {  // x = d * kIq4Values[q]
  static constexpr std::size_t kSize = 32;
  Half d;
  std::uint8_t q[16];
};

// Super-blocks of 256.
struct BlockQ2_K {  // 16 sub-blocks of 16: x = d * scale * q - dmin * min
  static constexpr std::size_t kSize = 256;
  std::uint8_t scales[16];  // low nibble scale, high nibble min
  std::uint8_t q[64];       // 2-bit codes
  Half d;
  Half dmin;
};
struct BlockQ3_K {  // 16 sub-blocks of 16: x = d * (scale - 32) * (q - 4)
  static constexpr std::size_t kSize = 256;
  std::uint8_t hmask[32];   // bit 2 of the codes
  std::uint8_t q[64];       // bits 0 and 1
  std::uint8_t scales[12];  // 6 bits each
  Half d;
};
struct BlockQ4_K {  // 8 sub-blocks of 32: x = d * scale * q - dmin * min
  static constexpr std::size_t kSize = 256;
  Half d;
  Half dmin;
  std::uint8_t scales[12];  // 6-bit scales and mins
  std::uint8_t q[128];
};
struct BlockQ5_K {  // 8 sub-blocks of 32: x = d * scale * q - dmin * min
  static constexpr std::size_t kSize = 256;
  Half d;
  Half dmin;
  std::uint8_t scales[12];  // as in Q4_K
  std::uint8_t qh[32];      // bit 4 of the codes
  std::uint8_t q[128];
};
struct BlockQ6_K {  // 16 sub-blocks of 16: x = d * scale * (q - 32)
  static constexpr std::size_t kSize = 256;
  std::uint8_t ql[128];  // bits 0 to 3 of the codes
  std::uint8_t qh[64];   // bits 4 and 5
  std::int8_t scales[16];
  Half d;
};
struct BlockIQ4_XS {  // 8 sub-blocks of 32: x = d * (scale - 32) * kIq4Values[q]
  static constexpr std::size_t kSize = 256;
  Half d;
  std::uint16_t scales_h;    // bits 4 and 5 of the scales
  std::uint8_t scales_l[4];  // bits 0 to 3
  std::uint8_t q[128];
};

static_assert(sizeof(BlockF32) == 4);
static_assert(sizeof(BlockF16) == 2);
static_assert(sizeof(BlockBF16) == 2);
static_assert(sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ4_0) == 18);
static_assert(sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_XS) == 136);

// The codebook of IQ4_NL and IQ4_XS.
inline constexpr std::int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

template <typename Block>
using BlockWeights = std::span<const float, Block::kSize>;
template <typename Block>
using BlockOutput = std::span<float, Block::kSize>;

// Encode requires finite weights and a block of zero bytes.
// Of single weights inline: a call for each would cost more than the conversion.
inline void EncodeBlock(BlockWeights<BlockF32> x, BlockF32& block) noexcept { block.x = x[0]; }
inline void EncodeBlock(BlockWeights<BlockF16> x, BlockF16& block) noexcept {
  block.x = FloatToFp16(x[0]);
}
inline void EncodeBlock(BlockWeights<BlockBF16> x, BlockBF16& block) noexcept {
  block.x = FloatToBf16(x[0]);
}
void EncodeBlock(BlockWeights<BlockQ8_0> x, BlockQ8_0& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ4_0> x, BlockQ4_0& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ4_1> x, BlockQ4_1& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ5_0> x, BlockQ5_0& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ5_1> x, BlockQ5_1& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ2_K> x, BlockQ2_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ3_K> x, BlockQ3_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ4_K> x, BlockQ4_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ5_K> x, BlockQ5_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ6_K> x, BlockQ6_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockIQ4_NL> x, BlockIQ4_NL& block) noexcept;
void EncodeBlock(BlockWeights<BlockIQ4_XS> x, BlockIQ4_XS& block) noexcept;

// What llama-quantize weights errors with when it has an importance matrix.
struct Importance {
  const float* columns;   // mean square of the input of each of the block's columns
  float row_mean_square;  // of the weights of the row
};

// As above with an importance matrix. Sums of products of weights and importance must be finite.
void EncodeBlock(BlockWeights<BlockQ4_0> x, const Importance& importance,
                 BlockQ4_0& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ4_1> x, const Importance& importance,
                 BlockQ4_1& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ5_0> x, const Importance& importance,
                 BlockQ5_0& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ5_1> x, const Importance& importance,
                 BlockQ5_1& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ2_K> x, const Importance& importance,
                 BlockQ2_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ3_K> x, const Importance& importance,
                 BlockQ3_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ4_K> x, const Importance& importance,
                 BlockQ4_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ5_K> x, const Importance& importance,
                 BlockQ5_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockQ6_K> x, const Importance& importance,
                 BlockQ6_K& block) noexcept;
void EncodeBlock(BlockWeights<BlockIQ4_NL> x, const Importance& importance,
                 BlockIQ4_NL& block) noexcept;
void EncodeBlock(BlockWeights<BlockIQ4_XS> x, const Importance& importance,
                 BlockIQ4_XS& block) noexcept;

// The 12 bytes of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit mins.
struct ScaleAndMin {
  std::uint8_t scale;
  std::uint8_t min;
};
inline ScaleAndMin UnpackScaleAndMin(std::span<const std::uint8_t, 12> s, std::size_t j) noexcept {
  if (j < 4) {
    return {static_cast<std::uint8_t>(s[j] & 63), static_cast<std::uint8_t>(s[j + 4] & 63)};
  }
  return {static_cast<std::uint8_t>((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4)),
          static_cast<std::uint8_t>((s[j + 4] >> 4) | ((s[j] >> 6) << 4))};
}

// The 12 bytes of Q3_K: sixteen scales in -32 ... 31.
inline int UnpackQ3Scale(std::span<const std::uint8_t, 12> s, std::size_t j) noexcept {
  const int low = (s[j % 8] >> (4 * (j / 8))) & 15;
  const int high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
  return (low | (high << 4)) - 32;
}

// The scales of IQ4_XS, in -32 ... 31.
inline int UnpackIq4Scale(const BlockIQ4_XS& block, std::size_t j) noexcept {
  const int low = (block.scales_l[j / 2] >> (4 * (j % 2))) & 15;
  const int high = (block.scales_h >> (2 * j)) & 3;
  return (low | (high << 4)) - 32;
}

}  // namespace phiq
