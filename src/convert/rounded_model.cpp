// Weights are encoded and decoded each time they are read: beside the products that they are read
// for, that costs little.
#include "convert/rounded_model.h"

#include <array>
#include <cstddef>

#include "convert/written_model.h"
#include "phiq/encoding.h"

namespace phiq {

RoundedModel::RoundedModel(const SourceModel& source, const Plan& plan, Choice takes)
    : StoredModel(source.stored->path()), source_(source) {
  for (const PlanLine& line : plan.lines) {
    if (line.table) continue;
    pieces_.push_back(PieceOf(line));
    rounded_.push_back(takes(line) ? &line : nullptr);
  }
}

void RoundedModel::ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                            RowCodec& codec, std::span<float> out) const {
  const StoredPiece& read = pieces_[piece];
  source_.weights.ReadRows({read.role, read.layer}, read.first_row + first_row, n_rows, codec, out);
  if (const PlanLine* line = rounded_[piece])
    RoundRows(*line->method, line->encoding, line->row_elements(), codec, out);
}

void RoundRows(const Method& method, const Encoding& encoding, std::size_t n, RowCodec& codec,
               std::span<float> rows) {
  const std::size_t n_rows = rows.size() / n, n_arrays = ArrayCount(encoding);
  std::array<std::vector<std::byte>, kMaxArrays> bytes;
  std::array<std::span<std::byte>, kMaxArrays> arrays;
  std::array<std::size_t, kMaxArrays> row_bytes{};
  for (std::size_t a = 0; a < n_arrays; ++a) {
    row_bytes[a] = ArrayRowBytes(encoding, a, n);
    bytes[a].resize(n_rows * row_bytes[a]);
    arrays[a] = bytes[a];
  }
  method.quantize(encoding, RawRows(rows), n, {}, std::span(arrays).first(n_arrays));
  for (std::size_t r = 0; r < n_rows; ++r) {
    std::array<std::span<const std::byte>, kMaxArrays> of_row;
    for (std::size_t a = 0; a < n_arrays; ++a)
      of_row[a] = arrays[a].subspan(r * row_bytes[a], row_bytes[a]);
    codec.Decode(encoding, std::span(of_row).first(n_arrays), rows.subspan(r * n, n));
  }
}

}  // namespace phiq
