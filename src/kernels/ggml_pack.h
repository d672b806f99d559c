// Codes and scales into the bytes of GGUF's blocks; the other way is in ggml_decode.cpp. Blocks are
// zero bytes before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/ggml_blocks.h"

namespace phiq {

// Blocks of 32: code e goes to nibble e / 16 of byte e % 16, its bit 4 (if any) to bit e.
inline void PackCodes(std::span<const std::uint8_t> codes, std::span<std::uint8_t> q) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    q[i] = static_cast<std::uint8_t>((codes[i] & 15) | ((codes[i + 16] & 15) << 4));
  }
}
inline void PackHighBits(std::span<const std::uint8_t> codes,
                         std::span<std::uint8_t> high_bits) noexcept {
  for (std::size_t e = 0; e < 32; ++e) {
    high_bits[e / 8] |= static_cast<std::uint8_t>((codes[e] >> 4) << (e % 8));
  }
}

// Super-blocks. Low nibbles: 64 codes in 32 bytes, the first 32 in the low halves.
inline void PackNibbles(std::span<const std::uint8_t> codes,
                        std::span<std::uint8_t, 128> q) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    q[32 * (e / 64) + e % 32] |= static_cast<std::uint8_t>((codes[e] & 15) << (4 * (e / 32 % 2)));
  }
}

// Two low bits: 128 codes in 32 bytes, 32 to each pair of bits.
inline void PackPairs(std::span<const std::uint8_t> codes, std::span<std::uint8_t, 64> q) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    q[32 * (e / 128) + e % 32] |= static_cast<std::uint8_t>((codes[e] & 3) << (2 * (e % 128 / 32)));
  }
}

// One bit of each code: bit e / 32 of byte e % 32.
inline void PackBit(std::span<const std::uint8_t> codes, int bit,
                    std::span<std::uint8_t, 32> q) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    q[e % 32] |= static_cast<std::uint8_t>(((codes[e] >> bit) & 1) << (e / 32));
  }
}

inline void PackSixBits(std::span<const std::uint8_t> codes, BlockQ6_K& block) noexcept {
  for (std::size_t e = 0; e < 256; ++e) {
    const std::size_t half = e / 128;
    const std::size_t k = e % 128 / 32;
    block.ql[64 * half + 32 * (k % 2) + e % 32] |=
        static_cast<std::uint8_t>((codes[e] & 15) << (4 * (k / 2)));
    block.qh[32 * half + e % 32] |= static_cast<std::uint8_t>((codes[e] >> 4) << (2 * k));
  }
}

// The 12 bytes of Q4_K and Q5_K.
inline void PackScalesAndMins(std::span<const std::uint8_t, 8> scales,
                              std::span<const std::uint8_t, 8> mins,
                              std::span<std::uint8_t, 12> packed) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    const std::uint8_t high_s = scales[j + 4];
    const std::uint8_t high_m = mins[j + 4];
    packed[j] = static_cast<std::uint8_t>(scales[j] | ((high_s >> 4) << 6));
    packed[j + 4] = static_cast<std::uint8_t>(mins[j] | ((high_m >> 4) << 6));
    packed[j + 8] = static_cast<std::uint8_t>((high_s & 15) | ((high_m & 15) << 4));
  }
}

// Scale j of -32 ... 31.
inline void PackQ3Scale(int scale, std::size_t j, std::span<std::uint8_t, 12> packed) noexcept {
  const int stored = scale + 32;
  packed[j % 8] |= static_cast<std::uint8_t>((stored & 15) << (4 * (j / 8)));
  packed[8 + j % 4] |= static_cast<std::uint8_t>((stored >> 4) << (2 * (j / 4)));
}
inline void PackIq4Scale(int scale, std::size_t j, BlockIQ4_XS& block) noexcept {
  const int stored = scale + 32;
  block.scales_l[j / 2] |= static_cast<std::uint8_t>((stored & 15) << (4 * (j % 2)));
  block.scales_h |= static_cast<std::uint16_t>((stored >> 4) << (2 * j));
}

}  // namespace phiq
