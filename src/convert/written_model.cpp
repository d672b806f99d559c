// Reads through the plan and the layout that were written by, so no format's reader has to bear
// files that are not whole.
#include "convert/written_model.h"

#include <algorithm>

#include "formats/encoded_rows.h"
#include "model/weights.h"

namespace phiq {

WrittenModel::WrittenModel(const SourceModel& source, const StreamTarget& target)
    : PlannedModel(source, *target.plan),
      target_(target),
      arrays_(pieces().size()),
      columns_(std::make_unique<ColumnBands>()) {
  const std::vector<PlanLine>& lines = target.plan->lines;
  std::vector<std::size_t> piece_of(lines.size(), pieces().size());
  for (std::size_t p = 0; p < pieces().size(); ++p)
    piece_of[static_cast<std::size_t>(&LineOf(p) - lines.data())] = p;
  for (const PlacedArray& array : target.layout->arrays)
    if (piece_of[array.line] < pieces().size()) arrays_[piece_of[array.line]][array.array] = &array;
}

WrittenModel::~WrittenModel() = default;

void WrittenModel::ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                            RowCodec& codec, std::span<float> out) const {
  const PlanLine& line = LineOf(piece);
  EncodedRows rows(line.encoding, n_rows, line.row_elements());
  for (std::size_t a = 0; a < rows.n_arrays(); ++a) {
    const PlacedArray& array = *arrays_[piece][a];
    const RowArray stored = {array.order, line.n_rows(), rows.row_bytes(a)};
    const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> bytes) {
      target_.ReadAt(array.file, array.offset_bytes + offset_bytes, bytes);
    };
    // Columns are kept, and would be as they were before the next expert was written.
    const bool is_whole = ShapeOf(config(), line.role).n_matrices == 1;
    if (array.order.IsByColumns() && is_whole) {
      columns_->ReadRows(stored, &array, first_row, rows.bytes(a), read);
    } else {
      phiq::ReadRows(stored, first_row, rows.bytes(a), read);
    }
  }
  rows.Decode(codec, out);
}

std::uint64_t WrittenModel::HeldBytes(const StreamTarget& target) {
  const bool has_columns = std::ranges::any_of(
      target.layout->arrays, [](const PlacedArray& array) { return array.order.IsByColumns(); });
  return has_columns ? 2 * ColumnBands::kBandBytes : 0;
}

}  // namespace phiq
