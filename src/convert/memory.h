// How much memory a conversion takes: planned before, measured after.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "convert/stream.h"
#include "phiq/plan.h"

namespace phiq {

struct MemoryPlan {
  unsigned threads = 1;
  std::uint64_t chunk_elements = 0;  // weights a worker holds at once
  std::uint64_t peak_bytes = 0;
};

// Chooses threads and chunk size so that the peak stays under the limit.
//
// `header_bytes`  headers of the outputs, held in memory.
// `held_bytes`    what else is.
// Throws   kResources: not even one thread with the smallest chunks fits (the least limit is
// named).
MemoryPlan PlanMemory(std::span<const StreamTarget> targets, const SourceModel& source,
                      std::uint64_t header_bytes, std::uint64_t held_bytes, unsigned threads,
                      std::uint64_t limit_bytes, OverflowPolicy overflow);

// A --memory-limit that holds so many bytes: "97M".
std::string LimitFor(std::uint64_t n_bytes);

// Bytes of PlanMemory that no option changes: program, tokenizer.
std::uint64_t FixedBytes(const SourceModel& source);

// Bytes of models of that shape that run side by side over some windows of a text: hidden states,
// the activations of one of them, scores, rotary tables, and what each thread takes.
std::uint64_t RunBytes(const ModelConfig& config, std::size_t n_models, std::uint64_t n_windows,
                       std::uint32_t n_ctx, unsigned threads);

// The resident memory of this process now, without what the allocator has only kept back; 0 where
// the system does not tell.
std::uint64_t ResidentMemoryBytes();

// The highest resident memory of this process so far (VmHWM); 0 where the system does not tell.
std::uint64_t PeakMemoryBytes();

}  // namespace phiq
