// The names and the order of kinds of tensors on the pages.
#include "tensor_kinds.h"

#include <algorithm>
#include <array>

#include "phiq/model.h"

namespace phiq::cli {

std::string KindName(std::string_view role, std::string_view tensor) {
  std::string name(role);
  std::ranges::replace(name, '_', ' ');
  const std::size_t bracket = tensor.rfind('[');
  if (bracket != std::string_view::npos && tensor.ends_with(']'))
    name.append(": ").append(tensor.substr(bracket + 1, tensor.size() - bracket - 2));
  return name;
}

std::pair<std::size_t, std::size_t> KindOrder(std::string_view role, std::string_view tensor) {
  constexpr std::array<TensorRole, 9> kRoles = {
      TensorRole::kTokenEmbedding,  TensorRole::kAttentionNorm, TensorRole::kAttentionQkv,
      TensorRole::kAttentionOutput, TensorRole::kMlpNorm,       TensorRole::kMlpGateUp,
      TensorRole::kMlpDown,         TensorRole::kOutputNorm,    TensorRole::kOutputHead};
  constexpr std::array<std::string_view, 5> kParts = {"[q]", "[k]", "[v]", "[gate]", "[up]"};
  const auto part =
      std::ranges::find_if(kParts, [&](std::string_view name) { return tensor.ends_with(name); });
  return {static_cast<std::size_t>(std::ranges::find(kRoles, role, RoleName) - kRoles.begin()),
          static_cast<std::size_t>(part - kParts.begin())};
}

}  // namespace phiq::cli
