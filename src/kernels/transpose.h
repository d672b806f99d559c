// Rows to columns, for formats that store a matrix the other way round.
#pragma once

#include <cstddef>
#include <span>

namespace phiq {

// Shapes    in: [n_rows, n_columns], out: [n_columns, n_rows], elements of 1, 2 or 4 bytes.
void Transpose(std::span<const std::byte> in, std::size_t n_rows, std::size_t n_columns,
               std::size_t element_bytes, std::span<std::byte> out) noexcept;

}  // namespace phiq
