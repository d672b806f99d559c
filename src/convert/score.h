// The pass over the weights before a plan: how badly 8 bits serve each matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "convert/rows.h"
#include "formats/format.h"
#include "phiq/convert.h"

namespace phiq {

struct Measured {
  Answers answers;
  std::uint64_t bytes_read = 0;  // of weights
};

// Answers what plans ask about weights. Reads all of those.
//
// Memory   within an eighth of options.memory_limit_bytes, or what one thread and one row need.
// Throws   kNumeric: NaN (with NanPolicy::kZero it counts as 0) or Inf, naming tensor and place.
//          kInput, kTryAgain, kInterrupted.
Measured Answer(const SourceModel& source, std::span<const Question> questions,
                const ConvertOptions& options, unsigned threads, const Hooks& hooks);

}  // namespace phiq
