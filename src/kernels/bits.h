// Codes as a stream of bits: code c at bits [c * bits, (c + 1) * bits), the lowest bit of a byte
// first. Eight codes are `bits` whole bytes, so they are packed eight at a time.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/endian.h"

namespace phiq {

// The low `width` bits of each lane of `lane_bits` bits.
constexpr std::uint64_t LaneMask(int width, int lane_bits) noexcept {
  const std::uint64_t lane = (std::uint64_t{1} << width) - 1;
  std::uint64_t mask = 0;
  for (int first = 0; first < 64; first += lane_bits) mask |= lane << first;
  return mask;
}

// Two numbers of kWidth bits at distance kLane become one of 2 * kWidth bits, in every 2 * kLane
// bits.
template <int kWidth, int kLane>
constexpr std::uint64_t Join(std::uint64_t x) noexcept {
  constexpr std::uint64_t kMask = LaneMask(kWidth, 2 * kLane);
  return (x & kMask) | (x >> kLane & kMask) << kWidth;
}

template <int kWidth, int kLane>
constexpr std::uint64_t Part(std::uint64_t x) noexcept {
  constexpr std::uint64_t kMask = LaneMask(kWidth, 2 * kLane);
  return (x & kMask) | (x >> kWidth & kMask) << kLane;
}

// Eight bytes of kBits bits each to one number of 8 * kBits bits, and back.
template <int kBits>
constexpr std::uint64_t JoinCodes(std::uint64_t codes) noexcept {
  return Join<4 * kBits, 32>(Join<2 * kBits, 16>(Join<kBits, 8>(codes)));
}
template <int kBits>
constexpr std::uint64_t PartCodes(std::uint64_t packed) noexcept {
  return Part<kBits, 8>(Part<2 * kBits, 16>(Part<4 * kBits, 32>(packed)));
}

// Bytes of n codes; bits of the last that are left over are 0.
constexpr std::size_t PackedBytes(int bits, std::size_t n) noexcept {
  return n / 8 * static_cast<std::size_t>(bits) + (n % 8 * static_cast<std::size_t>(bits) + 7) / 8;
}

template <int kBits>
void PackBitsOf(std::span<const std::uint8_t> codes, std::byte* out) noexcept {
  const std::size_t n_whole = codes.size() / 8 * 8;
  for (std::size_t c = 0; c < n_whole; c += 8, out += kBits) {
    const std::uint64_t packed = JoinCodes<kBits>(LoadLe<std::uint64_t>(std::as_bytes(codes), c));
    std::memcpy(out, &packed, kBits);
  }
  if (n_whole == codes.size()) return;
  std::uint64_t last = 0;
  std::memcpy(&last, codes.data() + n_whole, codes.size() - n_whole);
  const std::uint64_t packed = JoinCodes<kBits>(last);
  std::memcpy(out, &packed, PackedBytes(kBits, codes.size() - n_whole));
}

template <int kBits>
void UnpackBitsOf(const std::byte* in, std::span<std::uint8_t> codes) noexcept {
  const std::size_t n_whole = codes.size() / 8 * 8;
  for (std::size_t c = 0; c < n_whole; c += 8, in += kBits) {
    std::uint64_t packed = 0;
    std::memcpy(&packed, in, kBits);
    StoreLe(PartCodes<kBits>(packed), std::as_writable_bytes(codes), c);
  }
  if (n_whole == codes.size()) return;
  std::uint64_t packed = 0;
  std::memcpy(&packed, in, PackedBytes(kBits, codes.size() - n_whole));
  const std::uint64_t last = PartCodes<kBits>(packed);
  std::memcpy(codes.data() + n_whole, &last, codes.size() - n_whole);
}

// Shapes    codes: [n], each below 2^bits; packed: PackedBytes(bits, n) bytes.
// Requires  bits 2, 3, 4, 5, 6 or 8.
inline void PackBits(int bits, std::span<const std::uint8_t> codes,
                     std::span<std::byte> packed) noexcept {
  assert(packed.size() == PackedBytes(bits, codes.size()));
  switch (bits) {
    case 2:
      return PackBitsOf<2>(codes, packed.data());
    case 3:
      return PackBitsOf<3>(codes, packed.data());
    case 4:
      return PackBitsOf<4>(codes, packed.data());
    case 5:
      return PackBitsOf<5>(codes, packed.data());
    case 6:
      return PackBitsOf<6>(codes, packed.data());
    default:
      std::copy_n(std::as_bytes(codes).begin(), codes.size(), packed.begin());
  }
}

inline void UnpackBits(int bits, std::span<const std::byte> packed,
                       std::span<std::uint8_t> codes) noexcept {
  assert(packed.size() == PackedBytes(bits, codes.size()));
  switch (bits) {
    case 2:
      return UnpackBitsOf<2>(packed.data(), codes);
    case 3:
      return UnpackBitsOf<3>(packed.data(), codes);
    case 4:
      return UnpackBitsOf<4>(packed.data(), codes);
    case 5:
      return UnpackBitsOf<5>(packed.data(), codes);
    case 6:
      return UnpackBitsOf<6>(packed.data(), codes);
    default:
      std::copy_n(packed.begin(), codes.size(), std::as_writable_bytes(codes).begin());
  }
}

// Signed codes to unsigned ones 2^(bits-1) above, and back.
inline void FlipTopBits(int bits, std::span<std::uint8_t> codes) noexcept {
  const auto top_bit = static_cast<std::uint8_t>(1 << (bits - 1));
  for (std::uint8_t& code : codes) code ^= top_bit;
}

}  // namespace phiq
