// Weights are encoded and decoded each time they are read: beside the products that they are read
// for, that costs little.
#include "convert/rounded_model.h"

#include <array>
#include <cstddef>

#include "formats/encoded_rows.h"

namespace phiq {

RoundedModel::RoundedModel(const SourceModel& source, const Plan& plan, const Choice& takes)
    : PlannedModel(source, plan) {
  for (std::size_t p = 0; p < pieces().size(); ++p) is_rounded_.push_back(takes(LineOf(p)) ? 1 : 0);
}

void RoundedModel::ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                            RowCodec& codec, std::span<float> out) const {
  const PlanLine& line = LineOf(piece);
  source().weights.ReadRows({line.role, line.layer}, line.first_row + first_row, n_rows, codec,
                            out);
  if (is_rounded_[piece] != 0)
    RoundRows(*line.method, line.encoding, line.row_elements(), codec, out);
}

void RoundRows(const Method& method, const Encoding& encoding, std::size_t n, RowCodec& codec,
               std::span<float> rows) {
  EncodedRows encoded(encoding, rows.size() / n, n);
  std::array<std::span<std::byte>, kMaxArrays> arrays;
  for (std::size_t a = 0; a < encoded.n_arrays(); ++a) arrays[a] = encoded.bytes(a);
  method.quantize(encoding, RawRows(rows), n, {}, std::span(arrays).first(encoded.n_arrays()));
  encoded.Decode(codec, rows);
}

}  // namespace phiq
