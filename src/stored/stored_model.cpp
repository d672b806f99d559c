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
  for (const WeightInfo& weight : WeightsOf(model.config)) {
    if (weights.StoredAs(weight.id) != weight.id) continue;  // a tied head
    ModelTensor tensor;
    tensor.role = weight.id.role;
    tensor.layer = weight.id.layer;
    tensor.name = weight.name;
    tensor.shape = {weight.shape.row_elements};
    if (!IsNorm(weight.id.role)) tensor.shape.insert(tensor.shape.begin(), weight.shape.n_rows);
    tensor.dtype = FloatsOf(weights.PieceOf(weight.id, 0).encoding);
    model.tensors.push_back(std::move(tensor));
  }
  model.tokenizer = stored.ReadTokenizer(warn);
  return model;
}

}  // namespace phiq
