// Weights as rows of floats: a source cut into chunks of whole rows, whoever stores it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/rope.h"
#include "phiq/plan.h"
#include "phiq/quantize.h"
#include "stored/stored_model.h"

namespace phiq {

// A model that is converted or that an output is held against: opened, described, every weight
// found.
struct SourceModel {
  // Throws   as WeightIndex, ModelOf and ConfigTables.
  SourceModel(std::unique_ptr<StoredModel> opened, const WarningFn& warn);

  std::unique_ptr<StoredModel> stored;
  WeightIndex weights;
  Model model;
  ConfigTables tables;  // of the stored model's configuration
  // "Q4_K, Q6_K, F32": what the weights were stored as where that has lost something; else "".
  std::string lossy_types = {};
  // Which file it is, where that is none of a checkpoint: "gguf Q8_0, F32, record 5f0c..."; what it
  // records of its own bytes, where it does. Else "".
  std::string origin = {};

  // Where the values of a row of a line stand, for messages.
  std::string FileOf(const PlanLine& line, std::uint64_t row) const;
  // Bytes that reading so many rows of a line takes besides the rows.
  std::uint64_t WorkBytes(const PlanLine& line, std::uint64_t n_rows) const;
  // Bytes of rows of a line as they are stored; 0 for tables.
  std::uint64_t StoredBytes(const PlanLine& line, std::uint64_t first_row,
                            std::uint64_t n_rows) const;
};

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

// Reads rows of plan lines. One reader a thread: it owns the buffers.
class LineReader {
 public:
  explicit LineReader(const SourceModel& source) : source_(&source) {}

  // The rows of a chunk, [n_rows * row_elements], counted from the line's first row; valid until
  // the next call. NaN and Inf are passed on.
  std::span<float> Read(const PlanLine& line, const RowChunk& chunk);
  // The same, as they are stored where they are floats of one type.
  RawRows ReadRaw(const PlanLine& line, const RowChunk& chunk);
  // What ReadRaw gave last, as floats that may be changed.
  std::span<float> RawAsFloats();

 private:
  // The type of the floats that the rows are stored as, if that is one.
  std::optional<FloatType> StoredType(const PlanLine& line, const RowChunk& chunk) const;

  const SourceModel* source_;
  RowCodec codec_;
  std::vector<std::byte> bytes_;
  std::vector<float> floats_;
  RawRows raw_;  // in one of these
};

// The error for a piece in which a NaN or Inf was met: reads all of it to name the first and the
// count.
Error NonFiniteWeights(const StoredModel& model, std::size_t piece, std::uint64_t max_elements);
// The same for a line: of the first of its weight's pieces that has one.
Error NonFiniteWeights(const SourceModel& source, const PlanLine& line, std::uint64_t max_elements);

}  // namespace phiq
