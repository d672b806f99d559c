// What a stored model answers unless its format knows better, and the model that one describes.
#include "stored/stored_model.h"

#include <fmt/format.h>

#include "model/float_types.h"

namespace phiq {
namespace {

class NoSideFiles final : public SideFiles {
 public:
  std::filesystem::path PathOf(std::string_view name) const override { return name; }
  std::optional<std::string> ReadFile(std::string_view, std::uint64_t) const override {
    return std::nullopt;
  }
  std::vector<std::string> Names() const override { return {}; }
  std::uint64_t SizeBytes(std::string_view) const noexcept override { return 0; }
};

// The floats that a weight is worth planning from: its own, or float32 of what codes decode to.
DType FloatsOf(const Encoding& encoding) {
  const auto* type = std::get_if<GgmlType>(&encoding);
  const std::optional<FloatType> floats = type == nullptr ? std::nullopt : FloatTypeOf(*type);
  return DTypeOf(floats.value_or(FloatType::kF32));
}

}  // namespace

const SideFiles& StoredModel::side_files() const noexcept {
  static const NoSideFiles none;
  return none;
}

void StoredModel::ReadRawRows(std::size_t piece, std::uint64_t, std::uint64_t,
                              std::span<std::byte>) const {
  throw Error(ErrorCode::kInternal, "a piece without raw rows")
      .In(path_)
      .Tensor(pieces()[piece].name);
}

Model Describe(const StoredModel& stored, const WeightIndex& weights, const WarningFn& warn) {
  Model model;
  model.name = stored.name();
  model.repository_id = stored.repository_id();
  model.config = stored.config();
  for (const WeightId& id : WeightsOf(model.config)) {
    if (weights.StoredAs(id) != id) continue;  // a tied head
    const StoredPiece& piece = weights.PieceOf(id, 0);
    ModelTensor tensor;
    tensor.role = id.role;
    tensor.layer = id.layer;
    const WeightShape shape = ShapeOf(model.config, id.role);
    tensor.name = piece.n_rows == shape.n_rows ? piece.name : CheckpointName(id);
    tensor.shape = {shape.row_elements};
    if (!IsNorm(id.role)) tensor.shape.insert(tensor.shape.begin(), shape.n_rows);
    tensor.dtype = FloatsOf(piece.encoding);
    model.tensors.push_back(std::move(tensor));
  }
  model.tokenizer = stored.ReadTokenizer(warn);
  return model;
}

}  // namespace phiq
