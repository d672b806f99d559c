// Buffers for the arrays of an encoding, and the decoder over them: what every reader needs and
// none should spell out.
#include "formats/encoded_rows.h"

namespace phiq {

EncodedRows::EncodedRows(const Encoding& encoding, std::uint64_t n_rows, std::uint64_t row_elements)
    : encoding_(encoding), n_rows_(n_rows), row_elements_(row_elements) {
  for (std::size_t a = 0; a < n_arrays(); ++a) {
    row_bytes_[a] = ArrayRowBytes(encoding, a, row_elements);
    bytes_[a].resize(n_rows * row_bytes_[a]);
  }
}

void EncodedRows::Decode(RowCodec& codec, std::span<float> out) const {
  std::array<std::span<const std::byte>, kMaxArrays> row;
  for (std::uint64_t r = 0; r < n_rows_; ++r) {
    for (std::size_t a = 0; a < n_arrays(); ++a)
      row[a] = std::span(bytes_[a]).subspan(r * row_bytes_[a], row_bytes_[a]);
    codec.Decode(encoding_, std::span(row).first(n_arrays()),
                 out.subspan(r * row_elements_, row_elements_));
  }
}

}  // namespace phiq
