// Which piece holds which rows of a weight; all of them are there before anybody reads one.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernels/simd/floats.h"
#include "phiq/text.h"
#include "stored/stored_model.h"

namespace phiq {
namespace {

Error BadPiece(const StoredModel& model, const StoredPiece& piece, std::string message) {
  return Error(ErrorCode::kBadData, std::move(message)).In(model.path()).Tensor(piece.name);
}

Error NonFinite(const StoredModel& model, const StoredPiece& piece, std::uint64_t row,
                std::uint64_t column, float value) {
  const std::uint64_t block_size = BoundOf(piece.encoding, piece.row_elements).block_size;
  std::string place = fmt::format("row {}, column {}", row, column);
  if (block_size > 1) {
    const std::uint64_t row_blocks = (piece.row_elements + block_size - 1) / block_size;
    place += fmt::format(", block {}", row * row_blocks + column / block_size);
  }
  return Error(ErrorCode::kNumeric, fmt::format("{} decodes to {} ({})", piece.type, value, place))
      .In(model.path())
      .Tensor(piece.name);
}

}  // namespace

WeightIndex::WeightIndex(const StoredModel& model) : model_(model) {
  const ModelConfig& config = model.config();
  const std::vector<WeightInfo> weights = WeightsOf(config);
  for (const WeightInfo& weight : weights)
    weights_[weight.id].row_elements = weight.shape.row_elements;
  const std::span<const StoredPiece> pieces = model.pieces();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const StoredPiece& piece = pieces[i];
    if (piece.refusal) throw *piece.refusal;
    if (piece.holds != Holds::kWeight) continue;
    const WeightId id = {piece.role, piece.layer};
    const auto weight = weights_.find(id);
    if (weight == weights_.end()) {
      throw BadPiece(
          model, piece,
          fmt::format("layer {} of a model with {} layers", piece.layer, config.n_layers));
    }
    const WeightShape shape = ShapeOf(config, piece.role);
    if (piece.row_elements != shape.row_elements || piece.n_rows > shape.n_rows ||
        piece.first_row > shape.n_rows - piece.n_rows) {
      throw BadPiece(model, piece,
                     fmt::format("is {} x {}, from row {} of {}, which has {} x {}", piece.n_rows,
                                 piece.row_elements, piece.first_row, CheckpointName(config, id),
                                 shape.n_rows, shape.row_elements));
    }
    weight->second.parts.push_back({i, piece.first_row, piece.n_rows});
  }
  for (const WeightInfo& weight : weights) {
    std::vector<Part>& parts = weights_[weight.id].parts;
    if (weight.id.role == TensorRole::kOutputHead && parts.empty() && config.tie_word_embeddings) {
      parts = weights_[{TensorRole::kTokenEmbedding}].parts;
      continue;
    }
    std::ranges::stable_sort(parts, {}, &Part::first_row);
    std::uint64_t row = 0;
    for (const Part& part : parts) {
      if (part.first_row < row) {
        throw BadPiece(model, pieces[part.piece],
                       fmt::format("row {} of {} is stored twice", part.first_row, weight.name));
      }
      if (part.first_row > row) break;
      row += part.n_rows;
    }
    if (row == weight.shape.n_rows) continue;
    throw Error(ErrorCode::kBadData, row == 0 && parts.empty()
                                         ? fmt::format("{} is missing", weight.name)
                                         : fmt::format("{} is missing from row {} of {} on",
                                                       weight.name, row, weight.shape.n_rows))
        .In(model.path());
  }
}

const WeightIndex::Weight& WeightIndex::Find(WeightId id) const {
  const auto found = weights_.find(id);
  if (found != weights_.end()) return found->second;
  throw Error(ErrorCode::kInternal,
              fmt::format("no weight {} in layer {}", RoleName(id.role), id.layer));
}

std::span<const WeightIndex::Part> WeightIndex::PartsOf(WeightId id) const {
  return Find(id).parts;
}

const StoredPiece& WeightIndex::PieceOf(WeightId weight, std::uint64_t row) const {
  for (const Part& part : PartsOf(weight))
    if (row >= part.first_row && row - part.first_row < part.n_rows)
      return model_.pieces()[part.piece];
  throw Error(ErrorCode::kInternal,
              fmt::format("no row {} of {}", row, CheckpointName(model_.config(), weight)));
}

WeightId WeightIndex::StoredAs(WeightId weight) const {
  const StoredPiece& piece = model_.pieces()[PartsOf(weight).front().piece];
  return {piece.role, piece.layer};
}

std::uint64_t WeightIndex::StoredBytes(WeightId weight, std::uint64_t first_row,
                                       std::uint64_t n_rows) const {
  std::uint64_t sum = 0;
  ForEachRun(weight, first_row, n_rows,
             [&](std::size_t piece, std::uint64_t, std::uint64_t, std::uint64_t n) {
               const StoredPiece& stored = model_.pieces()[piece];
               sum += n * stored.size_bytes / stored.n_rows;
             });
  return sum;
}

void WeightIndex::ReadRows(WeightId id, std::uint64_t first_row, std::uint64_t n_rows,
                           RowCodec& codec, std::span<float> out) const {
  const std::uint64_t n = Find(id).row_elements;
  std::uint64_t n_found = 0;
  ForEachRun(
      id, first_row, n_rows,
      [&](std::size_t piece, std::uint64_t row, std::uint64_t weight_row, std::uint64_t n_here) {
        const std::span<float> rows = out.subspan((weight_row - first_row) * n, n_here * n);
        model_.ReadRows(piece, row, n_here, codec, rows);
        if (const std::size_t bad = simd::FirstNonFinite(rows); bad < rows.size())
          throw NonFinite(model_, model_.pieces()[piece], row + bad / n, bad % n, rows[bad]);
        n_found += n_here;
      });
  if (n_found == n_rows) return;
  throw Error(ErrorCode::kInternal,
              fmt::format("rows {} to {} of {}", first_row, first_row + n_rows,
                          CheckpointName(model_.config(), id)));
}

}  // namespace phiq
