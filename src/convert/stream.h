// The streaming writer: reads every weight once, encodes it for each output that wants it, and
// writes at offsets that are final, on all cores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/xxh3.h"
#include "calibrate/correction.h"
#include "calibrate/input_statistics.h"
#include "convert/meter.h"
#include "convert/rows.h"
#include "formats/layout.h"
#include "io/input_file.h"
#include "io/output_file.h"
#include "phiq/convert.h"

namespace phiq {

// One output: what its lines become, and where their arrays go.
struct StreamTarget {
  const Plan* plan = nullptr;
  const OutputLayout* layout = nullptr;
  std::vector<OutputFile*> files;  // of layout->files
  // Instead of `files`: those of an output that stands. Nothing is written; each row is held
  // against what they have of it.
  std::vector<const InputFile*> stored = {};

  // What one of the files holds by now.
  void ReadAt(std::size_t file, std::uint64_t offset_bytes, std::span<std::byte> bytes) const;
};

struct StreamOptions {
  unsigned threads = 1;
  std::uint64_t chunk_elements = 0;  // weights a worker holds at once
  NanPolicy nan = NanPolicy::kError;
  OverflowPolicy overflow = OverflowPolicy::kError;
};

// Which lines are written, and what is known of the inputs that they are multiplied with.
struct StreamStage {
  using Choice = std::function<const Method&(const PlanLine&)>;

  std::function<bool(const PlanLine&)> takes = {};  // empty: all
  std::int32_t expert = -1;  // of weights of several experts its rows alone; -1: all rows
  Choice method_of = {};     // empty: each line's own
  InputStats stats = {};
  // Codes with feedback are those of weights moved by these and kCorrectionShare; errors remain
  // those of the weights as they are.
  std::span<const calibrate::CorrectionBlock> correction = {};
  // Lines with a `reference` are held against it by their products with these inputs.
  const calibrate::Probe* probe = nullptr;

  const Method& MethodOf(const PlanLine& line) const {
    return method_of ? method_of(line) : *line.method;
  }
};

// Mean over tokens and rows of (w * (input + what it lacks) - decoded * input)^2.
struct ProductErrors {
  double held_back = 0, reference = 0;  // on text that no statistics have seen
  double seen = 0;                      // on text that they have
};

// One line of one target, written; or the rows that it has of an expert.
struct LineResult {
  std::size_t target = 0, line = 0;
  std::int32_t expert = -1;        // -1: the whole line
  const Method* method = nullptr;  // that chose the codes
  std::uint64_t n_clamped = 0;
  std::uint64_t n_outliers = 0;  // above kOutlier and kOutlierRatio times their row's median
  double squared_error = 0, squared_weight = 0;  // over every kErrorSampleStride-th row
  Hash128 hash;                                  // the sum of HashRow over rows and arrays
  std::uint64_t n_different = 0;  // rows of arrays that are not as StreamTarget::stored has them
  std::optional<ProductErrors> products;
};

struct StreamResult {
  std::uint64_t bytes_read = 0;
  std::uint64_t n_nan_zeroed = 0;
  std::vector<LineResult> lines;  // those that were written

  void Add(const StreamResult& other);
};

// No scale holds such a weight and the others of its row. Trained weights are far below: what is
// found is damage. Rows are looked at only when a weight is that large, which costs nothing.
inline constexpr float kOutlier = 16;
inline constexpr float kOutlierRatio = 4096;

// The error in the report comes from every eighth row: decoding all of them would cost more than
// writing a round-to-nearest type does.
inline constexpr std::uint64_t kErrorSampleStride = 8;

// Bytes one worker holds: source bytes, floats, their clamped copy, encoded bytes, decoded sample;
// of lines with a reference what methods and products take besides.
std::uint64_t StreamBytesPerThread(std::span<const StreamTarget> targets, const SourceModel& source,
                                   std::uint64_t chunk_elements, OverflowPolicy overflow);

// Writes the tensors of a stage; in several stages every line is to be taken by one (and by a later
// one again, to write it otherwise). Sources are read in the order in which the first target's
// arrays stand in its files (pipes need it).
//
// Memory   threads * StreamBytesPerThread.
// Throws   kNumeric: NaN, Inf, F16 or scale overflow, naming tensor and place. kOutput, kInput,
//          kTryAgain, kInterrupted.
StreamResult StreamTensors(const SourceModel& source, std::span<const StreamTarget> targets,
                           const StreamOptions& options, const StreamStage& stage, Meter& meter);
// Weights that a stage reads, for the meter.
std::uint64_t WeightsOf(const SourceModel& source, std::span<const StreamTarget> targets,
                        const StreamStage& stage);

}  // namespace phiq
