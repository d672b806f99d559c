// Passes over the weights before a plan is final: how badly 8 bits serve each matrix, and what is
// too large for 16.
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

// --overflow f32: tensors with a value that F16 cannot hold stay F32. Reads the weights of all F16
// lines, and returns their bytes. Memory as Answer.
std::uint64_t WidenWhatOverflowsHalf(const SourceModel& source, Plan& plan,
                                     const ConvertOptions& options, unsigned threads,
                                     const Hooks& hooks);

}  // namespace phiq
