// Rows of a weight as a file stores them: the bytes of each array, then decoded.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "phiq/encoding.h"

namespace phiq {

class EncodedRows {
 public:
  EncodedRows(const Encoding& encoding, std::uint64_t n_rows, std::uint64_t row_elements);

  std::size_t n_arrays() const noexcept { return ArrayCount(encoding_); }
  // Of array `array`: its bytes in one row, and all rows one behind the other, to be filled.
  std::size_t row_bytes(std::size_t array) const noexcept { return row_bytes_[array]; }
  std::span<std::byte> bytes(std::size_t array) noexcept { return bytes_[array]; }

  // Shapes    out: [n_rows * row_elements].
  void Decode(RowCodec& codec, std::span<float> out) const;

 private:
  const Encoding& encoding_;
  std::uint64_t n_rows_, row_elements_;
  std::array<std::vector<std::byte>, kMaxArrays> bytes_;
  std::array<std::size_t, kMaxArrays> row_bytes_{};
};

}  // namespace phiq
