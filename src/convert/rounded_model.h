// The source with some of its weights as a plan's types would make them: what a type does to the
// model's answers is seen before anything is written.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "convert/planned_model.h"
#include "convert/rows.h"
#include "phiq/plan.h"

namespace phiq {

class RoundedModel : public PlannedModel {
 public:
  using Choice = std::function<bool(const PlanLine&)>;

  // Both must outlive this. Lines that `takes` says no to keep their weights. Codes are those of
  // the lines' own methods, which need no statistics.
  RoundedModel(const SourceModel& source, const Plan& plan, const Choice& takes);

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override;

 private:
  std::vector<char> is_rounded_;  // of the pieces
};

// Rows become what their codes decode to.
//
// Shapes    rows: [n_rows, n]
// Requires  as Method::quantize, of one that needs nothing.
void RoundRows(const Method& method, const Encoding& encoding, std::size_t n, RowCodec& codec,
               std::span<float> rows);

}  // namespace phiq
