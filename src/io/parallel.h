// Work on many chunks at once, in order of start, with bounded memory.
#pragma once

#include <cstddef>
#include <functional>

namespace phiq {

struct ParallelHooks {
  std::function<void()> tick;            // called about ten times a second on the calling thread
  std::function<bool()> stop_requested;  // polled with tick; true: stop and throw kInterrupted
  std::function<void()> on_failure;  // called once, from any thread, when the first item fails or a
                                     // stop was requested
};

// Runs work(item, worker) for every item in [0, n_items); worker < n_threads names the thread, so
// that each can own its buffers. Items are handed out in increasing order. n_threads 1 runs on one
// worker thread all the same, so that hooks behave alike.
//
// Throws   the exception of the lowest-numbered item that failed; items after a failure are not
//          started. kResources when not even one thread can start.
void ParallelChunks(unsigned n_threads, std::size_t n_items,
                    const std::function<void(std::size_t item, unsigned worker)>& work,
                    const ParallelHooks& hooks = {});

// The number of processors this process may use (its affinity mask), at least 1.
unsigned AvailableThreads() noexcept;

}  // namespace phiq
