// The streaming writer: reads every weight once, encodes it for each output that wants it, and
// writes at offsets that are final, on all cores.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "convert/rows.h"
#include "formats/layout.h"
#include "io/output_file.h"
#include "phiq/convert.h"

namespace phiq {

// One output: what its lines become, and where their arrays go.
struct StreamTarget {
  const Plan* plan = nullptr;
  const OutputLayout* layout = nullptr;
  std::vector<OutputFile*> files;  // of layout->files
};

struct StreamOptions {
  unsigned threads = 1;
  std::uint64_t chunk_elements = 0;  // weights a worker holds at once
  NanPolicy nan = NanPolicy::kError;
  OverflowPolicy overflow = OverflowPolicy::kError;
};

struct TargetResult {
  std::uint64_t n_clamped = 0;
  double relative_rmse = 0;  // over every kErrorSampleStride-th row of the quantized tensors
};

struct StreamResult {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t n_nan_zeroed = 0;
  std::vector<TargetResult> targets;
};

// The error in the report comes from every eighth row: decoding all of them would cost more than
// writing a round-to-nearest type does.
inline constexpr std::uint64_t kErrorSampleStride = 8;

// Bytes one worker holds: source bytes, floats, their clamped copy, encoded bytes, decoded sample.
std::uint64_t StreamBytesPerThread(std::span<const StreamTarget> targets, const SourceModel& source,
                                   std::uint64_t chunk_elements, OverflowPolicy overflow);

// Writes every tensor. Sources are read in the order in which the first target's arrays stand in
// its files (pipes need it).
//
// Memory   threads * StreamBytesPerThread.
// Throws   kNumeric: NaN, Inf, F16 or scale overflow, naming tensor and place. kOutput, kInput,
//          kTryAgain, kInterrupted.
StreamResult StreamTensors(const SourceModel& source, std::span<const StreamTarget> targets,
                           const StreamOptions& options, const Hooks& hooks);

}  // namespace phiq
