// Rows that are floats already are read as bytes into a buffer that the thread keeps; all others
// are decoded by the model that stores them.
#include "convert/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/buffer.h"
#include "base/endian.h"
#include "base/finite.h"
#include "kernels/simd/floats.h"
#include "model/float_types.h"
#include "phiq/text.h"

namespace phiq {

SourceModel::SourceModel(std::unique_ptr<StoredModel> opened, const WarningFn& warn)
    : stored(std::move(opened)),
      weights(*stored),
      model(ModelOf(*stored, weights, warn)),
      tables(stored->config()) {}

std::string SourceModel::FileOf(const PlanLine& line, std::uint64_t row) const {
  if (line.table) return stored->side_files().PathOf("config.json").string();
  return weights.PieceOf({line.role, line.layer}, line.first_row + row).file;
}

std::uint64_t SourceModel::WorkBytes(const PlanLine& line, std::uint64_t n_rows) const {
  std::uint64_t most = 0;
  if (line.table) return most;
  for (const WeightIndex::Part& part : weights.PartsOf({line.role, line.layer}))
    most = std::max(most, stored->WorkBytes(part.piece, std::min(n_rows, part.n_rows)));
  return most;
}

std::uint64_t SourceModel::StoredBytes(const PlanLine& line, std::uint64_t first_row,
                                       std::uint64_t n_rows) const {
  if (line.table) return 0;
  return weights.StoredBytes({line.role, line.layer}, line.first_row + first_row, n_rows);
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

std::span<float> LineReader::Read(const PlanLine& line, const RowChunk& chunk) {
  const std::uint64_t n = line.row_elements();
  Renew(floats_, chunk.n_rows * n);
  if (line.table) {
    source_->tables.ReadRows(*line.table, chunk.first_row, floats_);
    return floats_;
  }
  const StoredModel& model = *source_->stored;
  const std::uint64_t first_row = line.first_row + chunk.first_row;
  source_->weights.ForEachRun(
      {line.role, line.layer}, first_row, chunk.n_rows,
      [&](std::size_t piece, std::uint64_t row, std::uint64_t weight_row, std::uint64_t n_rows) {
        const std::span<float> out =
            std::span(floats_).subspan((weight_row - first_row) * n, n_rows * n);
        if (!model.HasRawRows(piece)) return model.ReadRows(piece, row, n_rows, codec_, out);
        const GgmlType type = std::get<GgmlType>(model.pieces()[piece].encoding);
        Renew(bytes_, GgmlRowBytes(type, out.size()));
        model.ReadRawRows(piece, row, n_rows, bytes_);
        DequantizeGgmlRow(type, bytes_, out);  // rows stand one behind the other
      });
  return floats_;
}

std::optional<FloatType> LineReader::StoredType(const PlanLine& line, const RowChunk& chunk) const {
  if (line.table) return std::nullopt;
  const StoredModel& model = *source_->stored;
  std::optional<FloatType> type;
  bool is_one = true;
  source_->weights.ForEachRun(
      {line.role, line.layer}, line.first_row + chunk.first_row, chunk.n_rows,
      [&](std::size_t piece, std::uint64_t, std::uint64_t, std::uint64_t) {
        std::optional<FloatType> own;
        if (model.HasRawRows(piece))
          own = FloatTypeOf(std::get<GgmlType>(model.pieces()[piece].encoding));
        is_one = is_one && own && (!type || type == own);
        type = own;
      });
  return is_one ? type : std::nullopt;
}

RawRows LineReader::ReadRaw(const PlanLine& line, const RowChunk& chunk) {
  const std::optional<FloatType> type = StoredType(line, chunk);
  if (!type) return raw_ = Read(line, chunk);
  const std::uint64_t first_row = line.first_row + chunk.first_row;
  const std::size_t row_bytes = GgmlRowBytes(GgmlTypeOf(*type), line.row_elements());
  Renew(bytes_, chunk.n_rows * row_bytes);
  source_->weights.ForEachRun(
      {line.role, line.layer}, first_row, chunk.n_rows,
      [&](std::size_t piece, std::uint64_t row, std::uint64_t weight_row, std::uint64_t n_rows) {
        source_->stored->ReadRawRows(
            piece, row, n_rows,
            std::span(bytes_).subspan((weight_row - first_row) * row_bytes, n_rows * row_bytes));
      });
  return raw_ = {*type, bytes_};
}

std::span<float> LineReader::RawAsFloats() {
  if (raw_.bytes.data() != bytes_.data()) return floats_;
  Renew(floats_, raw_.size());
  simd::ConvertFloats({raw_.type, raw_.bytes.data()}, raw_.size(), FloatType::kF32,
                      std::as_writable_bytes(std::span(floats_)).data());
  return floats_;
}

namespace {

// The bits of a weight as they stand in the file: " (0x7fc0)"; "" where it is no float there.
std::string ShowBits(const StoredModel& model, std::size_t piece, std::uint64_t row,
                     std::uint64_t column) {
  if (!model.HasRawRows(piece)) return "";
  const StoredPiece& stored = model.pieces()[piece];
  std::vector<std::byte> bytes(EncodedRowBytes(stored.encoding, stored.row_elements));
  model.ReadRawRows(piece, row, 1, bytes);
  const std::size_t element_bytes = bytes.size() / stored.row_elements;
  const std::size_t at = column * element_bytes;
  const std::uint32_t bits =
      element_bytes == 4 ? LoadLe<std::uint32_t>(bytes, at) : LoadLe<std::uint16_t>(bytes, at);
  return fmt::format(" (0x{:0{}x})", bits, element_bytes * 2);
}

}  // namespace

Error NonFiniteWeights(const StoredModel& model, std::size_t piece, std::uint64_t max_elements) {
  const StoredPiece& stored = model.pieces()[piece];
  const std::uint64_t n = stored.row_elements;
  const std::uint64_t rows_at_once = std::max<std::uint64_t>(1, max_elements / n);
  RowCodec codec;
  std::vector<float> x;
  std::uint64_t n_bad = 0;
  std::uint64_t first = 0;
  float value = 0;
  for (std::uint64_t row = 0; row < stored.n_rows; row += rows_at_once) {
    x.resize(std::min(rows_at_once, stored.n_rows - row) * n);
    model.ReadRows(piece, row, x.size() / n, codec, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (IsFinite(x[i])) continue;
      if (n_bad++ > 0) continue;
      first = row * n + i;
      value = x[i];
    }
  }
  return Error(
             ErrorCode::kNumeric,
             fmt::format("{} NaN or Inf weight{}, the first at index {} (row {}, column {}): {}{}",
                         n_bad, n_bad == 1 ? "" : "s", first, first / n, first % n, value,
                         ShowBits(model, piece, first / n, first % n)))
      .In(stored.file)
      .Tensor(stored.name);
}

Error NonFiniteWeights(const SourceModel& source, const PlanLine& line,
                       std::uint64_t max_elements) {
  RowCodec codec;
  std::vector<float> row(line.row_elements());
  std::optional<std::size_t> bad;  // the first piece that has one
  bool has_inf = false;
  for (const WeightIndex::Part& part : source.weights.PartsOf({line.role, line.layer})) {
    for (std::uint64_t r = 0; r < part.n_rows && bad.value_or(part.piece) == part.piece; ++r) {
      source.stored->ReadRows(part.piece, r, 1, codec, row);
      if (FirstNonFinite(row) == row.size()) continue;
      bad = part.piece;
      has_inf = has_inf || std::ranges::any_of(row, [](float x) { return std::isinf(x); });
    }
  }
  if (!bad)
    return Error(ErrorCode::kTryAgain, "a NaN or Inf that is not there any more")
        .In(source.stored->path())
        .Tensor(line.name);
  return NonFiniteWeights(*source.stored, *bad, max_elements)
      .Hint(has_inf ? "no option replaces Inf; a damaged checkpoint is better fetched again"
                    : "--nan zero replaces NaN by 0; a damaged checkpoint is better fetched again");
}

}  // namespace phiq
