// What onnxruntime-genai's builder calls the weights of its graphs and the nodes that read them,
// and which rows of the checkpoint they hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/weights.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::onnx {

// Where in the graph the node stands that reads a weight: "/model/layers.3/attn/o_proj".
// Throws   kInternal: no node reads such a part.
std::string NodePath(const ModelConfig& config, WeightId weight,
                     TensorPart part = TensorPart::kWhole);
// The unquantized weight's initializer: "model.layers.3.attn.o_proj.MatMul.weight".
std::string WeightName(const ModelConfig& config, WeightId weight,
                       TensorPart part = TensorPart::kWhole);
// What stands before and after the layer's number in the name of such a weight.
std::pair<std::string, std::string> AroundLayer(TensorRole role);

// A matrix of the experts, by the module that they stand in ("model.layers.3.moe"):
// "model.layers.3.moe.experts.up_proj.weight". Of gate and up, which are one tensor, see below.
std::string ExpertName(std::string_view module, TensorRole role);
// The tensor of gate and up, whose rows stand in turn.
std::string ExpertGateUpName(std::string_view module);

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
