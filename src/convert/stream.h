// The streaming writer: reads rows, quantizes and writes them at offsets that are final, on all
// cores.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "convert/rows.h"
#include "io/output_file.h"
#include "phiq/convert.h"

namespace phiq {

// Where one plan line's bytes go.
struct StreamTensor {
  std::size_t line = 0;  // index into Plan::lines
  OutputFile* file = nullptr;
  std::uint64_t offset_bytes = 0;
  std::uint64_t padding_bytes = 0;  // zeros after the tensor
};

struct StreamOptions {
  unsigned threads = 1;
  std::uint64_t chunk_elements = 0;  // weights a worker holds at once
  NanPolicy nan = NanPolicy::kError;
  OverflowPolicy overflow = OverflowPolicy::kError;
};

struct StreamResult {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t n_nan_zeroed = 0;
  std::uint64_t n_clamped = 0;
  double relative_rmse = 0;  // over every kErrorSampleStride-th row of the quantized tensors
};

// The error in the report comes from every eighth row: decoding all of them would cost more than
// writing a round-to-nearest type does.
inline constexpr std::uint64_t kErrorSampleStride = 8;

// Bytes one worker holds: source bytes, floats, encoded bytes, decoded sample.
std::uint64_t StreamBytesPerThread(const Plan& plan, const Checkpoint& checkpoint,
                                   std::uint64_t chunk_elements);

// Writes every tensor. `tensors` must be in the order of their offsets, file by file (pipes need
// it).
//
// Memory   threads * StreamBytesPerThread.
// Throws   kNumeric: NaN, Inf, F16 or scale overflow, naming tensor and place. kOutput, kInput,
//          kTryAgain, kInterrupted.
StreamResult StreamTensors(const Checkpoint& checkpoint, const ModelConfig& config,
                           const Plan& plan, std::span<const StreamTensor> tensors,
                           const StreamOptions& options, const Hooks& hooks);

}  // namespace phiq
