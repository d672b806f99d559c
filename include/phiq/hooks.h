// What a caller may hook into a long job.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "phiq/error.h"

namespace phiq {

struct Progress {
  std::uint64_t done = 0, total = 0;  // in `unit`s
  std::uint64_t bytes_written = 0;
  double elapsed_s = 0;
  std::string_view unit = "weights";      // or "tokens": of evaluating
  std::uint32_t layer = 0, n_layers = 0;  // of a job that goes layer by layer
  double estimated_s = 0;                 // of the whole, as it was before its start; 0: not known
};

// What a caller may hook into a long job. All optional; called from the calling thread.
struct Hooks {
  std::function<void(const Progress&)> progress;  // about ten times a second
  WarningFn warn;
  std::function<bool()> stop_requested;  // true: throw kInterrupted soon, leaving nothing behind
};

}  // namespace phiq
