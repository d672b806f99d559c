// From the layers that an architecture lists: which have queries, keys and values apart, and which
// have experts.
#include "calibrate/inputs.h"

#include <fmt/format.h>

#include <initializer_list>
#include <utility>
#include <variant>

#include "model/weights.h"

namespace phiq::calibrate {
namespace {

using enum TensorRole;

class Collector {
 public:
  explicit Collector(const ModelConfig& config) : config_(config) {}

  void Add(std::initializer_list<TensorRole> roles, std::int32_t layer, std::int32_t expert = -1) {
    MatrixInput input;
    for (const TensorRole role : roles) input.weights.push_back({role, layer, expert});
    input.weight = input.weights.front();
    input.n_columns = ShapeOf(config_, input.weight.role).row_elements;
    inputs_.push_back(std::move(input));
  }
  void AddMlp(const GatedMlp&, std::int32_t layer) {
    Add({kMlpGateUp}, layer);
    Add({kMlpDown}, layer);
  }
  void AddMlp(const Experts& experts, std::int32_t layer) {
    for (std::int32_t e = 0; e < static_cast<std::int32_t>(experts.n_experts); ++e) {
      Add({kExpertGate, kExpertUp}, layer, e);
      Add({kExpertDown}, layer, e);
    }
  }
  std::vector<MatrixInput> Take() && { return std::move(inputs_); }

 private:
  const ModelConfig& config_;
  std::vector<MatrixInput> inputs_;
};

}  // namespace

std::vector<MatrixInput> InputsOf(const ModelConfig& config) {
  Collector collector(config);
  std::int32_t layer = 0;
  for (const DecoderLayer& spec : NetworkOf(config).layers) {
    if (spec.attention.is_split) {
      collector.Add({kAttentionQuery, kAttentionKey, kAttentionValue}, layer);
    } else {
      collector.Add({kAttentionQkv}, layer);
    }
    collector.Add({kAttentionOutput}, layer);
    std::visit([&](const auto& mlp) { collector.AddMlp(mlp, layer); }, spec.mlp);
    ++layer;
  }
  collector.Add({kOutputHead}, -1);
  return std::move(collector).Take();
}

engine::WeightRows RowsOf(const ModelConfig& config, WeightId weight) {
  const WeightShape shape = ShapeOf(config, weight.role);
  engine::WeightRows rows = {{weight.role, weight.layer}, 0, shape.n_rows, shape.row_elements};
  if (weight.expert < 0) return rows;
  rows.n_rows = shape.n_rows / shape.n_matrices;
  rows.first_row = static_cast<std::size_t>(weight.expert) * rows.n_rows;
  return rows;
}

std::string InputName(WeightId weight) {
  const std::string_view role = RoleName(weight.role);
  if (weight.layer < 0) return fmt::format("the input of {}", role);
  if (weight.expert < 0) return fmt::format("the input of layer {}'s {}", weight.layer, role);
  return fmt::format("the input of layer {}'s {} {}", weight.layer, role, weight.expert);
}

}  // namespace phiq::calibrate
