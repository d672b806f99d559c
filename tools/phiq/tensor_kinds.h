// Tensors of one kind: of one role, or of one part of it, that all layers have. What the pages draw
// in one colour.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace phiq::cli {

// `role`: RoleName; `tensor`: a name that may end with a part, "...gate_up_proj.weight[gate]".

// "attention qkv", "mlp gate up: gate".
std::string KindName(std::string_view role, std::string_view tensor);

// Where a kind stands in the model: embedding, a layer's roles, norm and head; then its parts.
std::pair<std::size_t, std::size_t> KindOrder(std::string_view role, std::string_view tensor);

}  // namespace phiq::cli
