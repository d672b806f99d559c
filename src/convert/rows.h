// Weights as rows of floats: cut into chunks of whole rows, read from the checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/rope.h"
#include "phiq/checkpoint.h"
#include "phiq/ggml_type.h"
#include "phiq/plan.h"

namespace phiq {

// How a weight of a checkpoint is encoded; DescribeModel has refused every other dtype.
GgmlType TypeOfSource(DType dtype);

// Whole rows of one plan line; the unit of parallel work.
struct RowChunk {
  std::size_t line = 0;  // index into Plan::lines
  std::uint64_t first_row = 0;
  std::uint64_t n_rows = 0;
};

// Cuts the lines, in the given order, into chunks of at most `max_elements` weights (at least one
// row each).
std::vector<RowChunk> CutIntoChunks(const Plan& plan, std::span<const std::size_t> line_order,
                                    std::uint64_t max_elements);

// Reads rows of plan lines as floats. One reader a thread: it owns the buffers.
class RowReader {
 public:
  RowReader(const Checkpoint& checkpoint, const ModelConfig& config)
      : checkpoint_(checkpoint), tables_(config) {}

  // The rows of a chunk, [n_rows * row_elements], counted from the line's first row; valid until
  // the next call. NaN and Inf are passed on.
  std::span<float> Read(const PlanLine& line, const RowChunk& chunk);

 private:
  const Checkpoint& checkpoint_;
  ConfigTables tables_;
  std::vector<std::byte> bytes_;
  std::vector<float> floats_;
};

// The error for a tensor in which a NaN or Inf was met: reads all of it to name the first one and
// the count.
Error NonFiniteWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                       const PlanLine& line, std::uint64_t max_elements);

}  // namespace phiq
