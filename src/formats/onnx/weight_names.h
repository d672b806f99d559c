// What the weights of the graph are called, and which rows of the checkpoint they hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/weights.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::onnx {

struct NamedRows {
  std::string name;  // "model.layers.0.mlp.up_proj.MatMul.weight"
  WeightId weight;   // the head, of tied models too
  TensorPart part = TensorPart::kWhole;
  std::uint64_t first_row = 0, n_rows = 0;
};

// Every name that a graph may use, whole weights and parts of them alike.
std::vector<NamedRows> PossibleWeights(const ModelConfig& config);

// A table's name without the "model.rope." that ours have before it: "cos_cache_large".
std::string_view TableKind(std::string_view name) noexcept;

// The table that an initializer or constant holds ("cos_cache_large", with or without "model.rope."
// before it); nullopt when it is none of the model's. `n_rows` tells "cos_cache" of one table from
// that of two in a row.
std::optional<ConfigTable> FindTable(const ModelConfig& config, std::string_view name,
                                     std::uint64_t n_rows);

}  // namespace phiq::onnx
