// mlx-lm has a checkpoint's names, and stacks the experts of PhiMoE while it loads one.
#include "formats/mlx/tensor_names.h"

#include <fmt/format.h>

namespace phiq::mlx {

std::string TensorName(WeightId id, const std::string& checkpoint_name) {
  const auto of_experts = [&](const char* module) {
    return fmt::format("model.layers.{}.block_sparse_moe.switch_mlp.{}.weight", id.layer, module);
  };
  switch (id.role) {
    case TensorRole::kExpertGate:
      return of_experts("gate_proj");
    case TensorRole::kExpertUp:
      return of_experts("up_proj");
    case TensorRole::kExpertDown:
      return of_experts("down_proj");
    default:
      return checkpoint_name;
  }
}

}  // namespace phiq::mlx
