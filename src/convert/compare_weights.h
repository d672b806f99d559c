// Decoded weights against their source, in parallel: the numbers of `phiq verify`.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "convert/rows.h"
#include "phiq/convert.h"
#include "phiq/encoding.h"
#include "phiq/inspect.h"
#include "phiq/plan.h"
#include "stored/stored_model.h"

namespace phiq {

// A weight of an output: the rows of the source that it holds, and its stored encoding.
struct StoredWeight {
  std::string name;  // the output's own
  PlanLine line;     // name, source or table, first_row, shape, encoding
};

// The counterparts in the source of pieces that are whole tensors, and which piece each was: a
// problem for each piece or tensor that has none, or another shape.
struct MatchedWeights {
  std::vector<StoredWeight> weights;
  std::vector<std::size_t> pieces;  // beside `weights`
};
MatchedWeights MatchWeights(std::span<const StoredPiece> pieces, const SourceModel& source,
                            std::vector<std::string>& problems);

// Reads decoded rows of stored weight `index`. Called from several threads at once, each with its
// own codec.
using ReadRowsFn = std::function<void(std::size_t index, std::uint64_t first_row,
                                      std::uint64_t n_rows, RowCodec& codec, std::span<float> out)>;

struct CompareWeightsOptions {
  bool nan_was_zeroed = false;  // NaN in the source is 0 in the output
  bool was_clamped = false;     // weights beyond a half's range are its largest value
  unsigned threads = 1;
};

// Fills `verification.tensors`, and adds a problem for each weight that is not within its
// encoding's bounds.
void CompareWeights(const SourceModel& source, std::span<const StoredWeight> weights,
                    const ReadRowsFn& read_rows, const CompareWeightsOptions& options,
                    const Hooks& hooks, Verification& verification);

// Decisions of a plan as lines: "SUBJECT: VALUE (REASON)".
std::vector<std::string> NotesOf(std::span<const Decision> decisions);

}  // namespace phiq
