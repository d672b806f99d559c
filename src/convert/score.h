// The scoring pass of --ratio: how badly 8 bits serve each matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "convert/rows.h"
#include "phiq/convert.h"

namespace phiq {

struct Int8Errors {
  std::vector<float> errors;     // one a tensor, in the order asked for
  std::uint64_t bytes_read = 0;  // of weights
};

// The largest mean squared error of a row in INT8_ASYM, of each of `tensors` (indices into
// Model::tensors). Reads all their weights.
//
// Memory   within an eighth of options.memory_limit_bytes, or what one thread and one row need.
// Throws   kNumeric: NaN (with NanPolicy::kZero it counts as 0) or Inf, naming tensor and place.
//          kInput, kTryAgain, kInterrupted.
Int8Errors MeasureInt8Errors(const SourceModel& source, std::span<const std::size_t> tensors,
                             const ConvertOptions& options, unsigned threads, const Hooks& hooks);

}  // namespace phiq
