#include "formats/nibble_rows.h"

#include <algorithm>

namespace phiq {
namespace {

std::byte NibbleAt(std::span<const std::byte> bytes, std::uint64_t i) noexcept {
  const std::byte both = bytes[i / 2];
  return i % 2 == 0 ? both & std::byte{0x0F} : both >> 4;
}

void SetNibble(std::span<std::byte> bytes, std::uint64_t i, std::byte nibble) noexcept {
  bytes[i / 2] |= i % 2 == 0 ? nibble : nibble << 4;
}

}  // namespace

void JoinNibbleRows(std::span<const std::byte> rows, std::size_t n_rows, std::size_t row_nibbles,
                    std::span<std::byte> flat) noexcept {
  const std::size_t row_bytes = (row_nibbles + 1) / 2;
  std::ranges::fill(flat, std::byte{});
  for (std::size_t r = 0; r < n_rows; ++r) {
    const std::span<const std::byte> row = rows.subspan(r * row_bytes, row_bytes);
    for (std::size_t i = 0; i < row_nibbles; ++i)
      SetNibble(flat, r * row_nibbles + i, NibbleAt(row, i));
  }
}

void CutNibbleRow(std::span<const std::byte> flat, std::uint64_t first, std::size_t n,
                  std::span<std::byte> out) noexcept {
  std::ranges::fill(out, std::byte{});
  for (std::size_t i = 0; i < n; ++i) SetNibble(out, i, NibbleAt(flat, first + i));
}

}  // namespace phiq
