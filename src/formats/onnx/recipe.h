// What --type, --method and the encoding options mean for ONNX.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "phiq/format.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::onnx {

struct Recipe {
  std::string_view name;
  std::string_view description;
  int bits;                       // of the matrices; 0: floats
  int head_bits;                  // of the output head
  bool more_bits_in_some_layers;  // int8 as HasMoreBits says
  bool shares_tied_embedding;     // one integer tensor for embedding and head
  const Method* method;           // set by the name; nullptr: --method decides
};

// The precisions and the onnxruntime-genai builder's named mixtures; largest first.
std::span<const Recipe> Recipes() noexcept;

// By name, any case. Throws kUsage (with a suggestion); kUnsupported: one that phiq does not write.
const Recipe& FindRecipe(std::string_view name);

// The layers whose qkv (or v alone) and down projections k_quant_mixed gives 8 bits: the outer
// eighths and every third between.
bool HasMoreBits(const ModelConfig& config, TensorRole role, TensorPart part, std::int32_t layer);

}  // namespace phiq::onnx
