// Where a long job stands, counted by its threads and told to whoever watches.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "io/parallel.h"
#include "phiq/hooks.h"

namespace phiq {

// Threads  the counters may be raised by any; Tell is for the one that called the job.
class Meter {
 public:
  // `steps` of a job make one unit of what is told.
  Meter(const Hooks& hooks, std::uint64_t total, std::string_view unit = "weights",
        std::uint64_t steps = 1)
      : hooks_(hooks), total_(total), unit_(unit), steps_(steps) {}

  // Of a job that goes layer by layer; both 0: it does not. Set by the one that called it.
  std::uint32_t layer = 0, n_layers = 0;
  double estimated_s = 0;  // see Progress

  std::atomic<std::uint64_t> done = 0;  // in steps
  std::atomic<std::uint64_t> bytes_written = 0;

  void Tell() const {
    if (!hooks_.progress) return;
    hooks_.progress({.done = done / steps_,
                     .total = total_,
                     .bytes_written = bytes_written,
                     .elapsed_s = elapsed_s(),
                     .unit = unit_,
                     .layer = layer,
                     .n_layers = n_layers,
                     .estimated_s = estimated_s});
  }
  // For work on many threads.
  ParallelHooks parallel_hooks() const {
    return {[this] { Tell(); }, hooks_.stop_requested, {}};
  }
  double elapsed_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  const Hooks& hooks_;
  const std::uint64_t total_;
  const std::string_view unit_;
  const std::uint64_t steps_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace phiq
