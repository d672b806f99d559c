// Decoded weights against their source, in parallel: the numbers of `phiq verify`.
#pragma once

#include <cstddef>
#include <span>

#include "convert/meter.h"
#include "convert/rows.h"
#include "phiq/inspect.h"
#include "phiq/plan.h"
#include "stored/stored_model.h"

namespace phiq {

// A piece of an output, and the rows of the source that it holds.
struct StoredWeight {
  std::size_t piece = 0;
  PlanLine line;  // name, role and layer or table, first_row, shape; the piece's encoding
};

struct CompareWeightsOptions {
  bool nan_was_zeroed = false;  // NaN in the source is 0 in the output
  bool was_clamped = false;     // weights beyond a half's range are its largest value
  // One of CommonMethods chose the codes: for the products' sake, not for that of each weight.
  bool was_calibrated = false;
  bool was_corrected = false;  // and of weights that were moved before (calibrate/correction.h)
  unsigned threads = 1;
};

// Fills `verification.tensors`, and adds a problem for each weight that is not within its
// encoding's bounds.
void CompareWeights(const SourceModel& source, const StoredModel& output,
                    std::span<const StoredWeight> weights, const CompareWeightsOptions& options,
                    Meter& meter, Verification& verification);

// Decisions of a plan as lines: "SUBJECT: VALUE (REASON)".
std::vector<std::string> NotesOf(std::span<const Decision> decisions);

}  // namespace phiq
