// A line of a plan and a piece of a model say the same of a tensor.
#include "convert/planned_model.h"

#include "phiq/encoding.h"

namespace phiq {

PlannedModel::PlannedModel(const SourceModel& source, const Plan& plan)
    : StoredModel(source.stored->path()), source_(source) {
  for (const PlanLine& line : plan.lines) {
    if (line.table) continue;
    lines_.push_back(&line);
    StoredPiece& piece = pieces_.emplace_back();
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
  }
}

}  // namespace phiq
