// Rows of 4-bit numbers without padding between them, as tensors of OpenVINO have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace phiq {

// Moves rows that each begin in a byte of their own together.
//
// Shapes    rows: [n_rows, (row_nibbles + 1) / 2]; flat: [(n_rows * row_nibbles + 1) / 2].
// Layout    the first of two numbers in the low nibble; a high nibble that is left over is 0.
void JoinNibbleRows(std::span<const std::byte> rows, std::size_t n_rows, std::size_t row_nibbles,
                    std::span<std::byte> flat) noexcept;

// Numbers [first, first + n) of `flat`, from the start of a byte; out: [(n + 1) / 2].
void CutNibbleRow(std::span<const std::byte> flat, std::uint64_t first, std::size_t n,
                  std::span<std::byte> out) noexcept;

}  // namespace phiq
