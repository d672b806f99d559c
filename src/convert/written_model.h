// What of a target is written so far, as a model: the source, with the weights that the target's
// codes decode to in place of its own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "convert/planned_model.h"
#include "convert/rows.h"
#include "convert/stream.h"
#include "formats/order.h"

namespace phiq {

// Rows may be read when they are written, not before; those of experts one expert after the other.
// Not of a target that is a stream.
class WrittenModel : public PlannedModel {
 public:
  // Both, and what `target` names, must outlive this.
  WrittenModel(const SourceModel& source, const StreamTarget& target);
  ~WrittenModel() override;

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override;

  // Bytes that reading holds besides the rows, on all threads together.
  static std::uint64_t HeldBytes(const StreamTarget& target);

 private:
  using Arrays = std::array<const PlacedArray*, kMaxArrays>;

  const StreamTarget& target_;
  std::vector<Arrays> arrays_;  // of the pieces
  std::unique_ptr<ColumnBands> columns_;
};

}  // namespace phiq
