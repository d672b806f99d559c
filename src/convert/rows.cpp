#include "convert/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/buffer.h"
#include "base/endian.h"
#include "base/finite.h"
#include "phiq/text.h"
#include "plan/float_types.h"

namespace phiq {

GgmlType TypeOfSource(DType dtype) {
  if (const std::optional<FloatType> type = FloatTypeOf(dtype)) return GgmlTypeOf(*type);
  throw Error(ErrorCode::kInternal,
              fmt::format("dtype {} reached the row reader", DTypeName(dtype)));
}

std::vector<RowChunk> CutIntoChunks(const Plan& plan, std::span<const std::size_t> line_order,
                                    std::uint64_t max_elements) {
  std::vector<RowChunk> chunks;
  for (const std::size_t index : line_order) {
    const PlanLine& line = plan.lines[index];
    const std::uint64_t rows_at_once =
        std::max<std::uint64_t>(1, max_elements / line.row_elements());
    for (std::uint64_t row = 0; row < line.n_rows(); row += rows_at_once) {
      chunks.push_back({index, row, std::min(rows_at_once, line.n_rows() - row)});
    }
  }
  return chunks;
}

std::span<float> RowReader::Read(const PlanLine& line, const RowChunk& chunk) {
  const std::uint64_t n = chunk.n_rows * line.row_elements();
  const std::uint64_t first = (line.first_row + chunk.first_row) * line.row_elements();
  Renew(floats_, n);
  if (line.table) {
    tables_.ReadRows(*line.table, chunk.first_row, floats_);
    return floats_;
  }
  const SourceTensor& tensor = checkpoint_.tensors()[*line.source];
  const std::uint64_t element_bytes = DTypeBits(tensor.dtype) / 8;
  Renew(bytes_, n * element_bytes);
  checkpoint_.Read(tensor, first * element_bytes, bytes_);
  DequantizeGgmlRow(TypeOfSource(tensor.dtype), bytes_, floats_);
  return floats_;
}

Error NonFiniteWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                       const PlanLine& line, std::uint64_t max_elements) {
  const SourceTensor& tensor = checkpoint.tensors()[*line.source];
  RowReader reader(checkpoint, config);
  PlanLine whole = line;  // the message counts in the checkpoint's tensor
  whole.first_row = 0;
  whole.shape = tensor.shape;
  std::uint64_t n_bad = 0;
  std::uint64_t first = 0;
  float value = 0;
  const std::uint64_t rows_at_once = std::max<std::uint64_t>(1, max_elements / line.row_elements());
  for (std::uint64_t row = 0; row < whole.n_rows(); row += rows_at_once) {
    const std::span<const float> x =
        reader.Read(whole, {0, row, std::min(rows_at_once, whole.n_rows() - row)});
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (IsFinite(x[i])) continue;
      if (n_bad++ > 0) continue;
      first = row * line.row_elements() + i;
      value = x[i];
    }
  }
  // The bits as they stand in the file.
  const std::uint64_t element_bytes = DTypeBits(tensor.dtype) / 8;
  std::vector<std::byte> stored(element_bytes);
  checkpoint.Read(tensor, first * element_bytes, stored);
  const std::uint32_t bits =
      element_bytes == 4 ? LoadLe<std::uint32_t>(stored) : LoadLe<std::uint16_t>(stored);
  return Error(ErrorCode::kNumeric,
               fmt::format("{} NaN or Inf weight{}, the first at index {} (row {}, column {}): {} "
                           "(0x{:0{}x})",
                           n_bad, n_bad == 1 ? "" : "s", first, first / line.row_elements(),
                           first % line.row_elements(), value, bits, element_bytes * 2))
      .In(checkpoint.shards()[tensor.shard].string())
      .Tensor(line.name)
      .Hint("--nan zero replaces NaN by 0; a damaged checkpoint is better fetched again");
}

}  // namespace phiq
