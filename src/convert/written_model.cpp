// Reads through the plan and the layout that were written by, so no format's reader has to bear
// files that are not whole.
#include "convert/written_model.h"

#include <algorithm>

#include "model/weights.h"
#include "phiq/encoding.h"

namespace phiq {

StoredPiece PieceOf(const PlanLine& line) {
  StoredPiece piece;
  piece.name = line.display_name();
  piece.role = line.role;
  piece.layer = line.layer;
  piece.first_row = line.first_row;
  piece.n_rows = line.n_rows();
  piece.row_elements = line.row_elements();
  piece.shape = line.shape;
  piece.type = EncodingName(line.encoding);
  piece.encoding = line.encoding;
  piece.size_bytes = line.size_bytes;
  return piece;
}

WrittenModel::WrittenModel(const SourceModel& source, const StreamTarget& target)
    : StoredModel(source.stored->path()),
      source_(source),
      target_(target),
      columns_(std::make_unique<ColumnBands>()) {
  const std::vector<PlanLine>& lines = target.plan->lines;
  std::vector<std::size_t> piece_of(lines.size(), lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const PlanLine& line = lines[i];
    if (line.table) continue;
    piece_of[i] = pieces_.size();
    pieces_.push_back(PieceOf(line));
    places_.push_back({&line, {}});
  }
  for (const PlacedArray& array : target.layout->arrays)
    if (piece_of[array.line] < pieces_.size())
      places_[piece_of[array.line]].arrays[array.array] = &array;
}

WrittenModel::~WrittenModel() = default;

void WrittenModel::ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                            RowCodec& codec, std::span<float> out) const {
  const Piece& place = places_[piece];
  const Encoding& encoding = place.line->encoding;
  const std::size_t n = place.line->row_elements(), n_arrays = ArrayCount(encoding);
  std::array<std::vector<std::byte>, kMaxArrays> rows;
  std::array<std::size_t, kMaxArrays> row_bytes{};
  for (std::size_t a = 0; a < n_arrays; ++a) {
    const PlacedArray& array = *place.arrays[a];
    row_bytes[a] = ArrayRowBytes(encoding, a, n);
    rows[a].resize(n_rows * row_bytes[a]);
    const RowArray stored = {array.order, place.line->n_rows(), row_bytes[a]};
    const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> bytes) {
      target_.ReadAt(array.file, array.offset_bytes + offset_bytes, bytes);
    };
    // Columns are kept, and would be as they were before the next expert was written.
    const bool is_whole = ShapeOf(config(), place.line->role).n_matrices == 1;
    if (array.order.IsByColumns() && is_whole) {
      columns_->ReadRows(stored, &array, first_row, rows[a], read);
    } else {
      phiq::ReadRows(stored, first_row, rows[a], read);
    }
  }
  for (std::uint64_t r = 0; r < n_rows; ++r) {
    std::array<std::span<const std::byte>, kMaxArrays> arrays;
    for (std::size_t a = 0; a < n_arrays; ++a)
      arrays[a] = std::span(rows[a]).subspan(r * row_bytes[a], row_bytes[a]);
    codec.Decode(encoding, std::span(arrays).first(n_arrays), out.subspan(r * n, n));
  }
}

std::uint64_t WrittenModel::HeldBytes(const StreamTarget& target) {
  const bool has_columns = std::ranges::any_of(
      target.layout->arrays, [](const PlacedArray& array) { return array.order.IsByColumns(); });
  return has_columns ? 2 * ColumnBands::kBandBytes : 0;
}

}  // namespace phiq
