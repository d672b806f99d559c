// What --type and the encoding options mean for folders that transformers and vLLM load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "phiq/encoding.h"
#include "phiq/model.h"

namespace phiq::torch {

// How codes and scales of a weight become tensors: the same numbers in other arrangements.
enum class Box : std::uint8_t {
  kPacked,    // compressed-tensors "pack-quantized"
  kIntegers,  // compressed-tensors "int-quantized": activations are quantized, too, at run time
  kGptq,
  kAwq,
};
constexpr bool IsCompressedTensors(Box box) noexcept {
  return box == Box::kPacked || box == Box::kIntegers;
}
// What config.json calls the method, and people the format.
std::string_view QuantMethod(Box box) noexcept;

struct Type {
  std::string_view name;
  std::string_view description;
  Box box;
  int bits;
};

inline constexpr std::uint32_t kDefaultGroup = 128;
// Of a --tensor-type rule: the tensor stays as the checkpoint has it.
inline constexpr std::string_view kFloat = "float";

// Largest first.
std::span<const Type> Types() noexcept;

// By name, any case. Throws kUsage (with a suggestion).
const Type& FindType(std::string_view name);

// Throws kUnsupported: a model that this format is not written of.
void CheckModel(const ModelConfig& config);

// "model.layers.3.mlp.down_proj": the module that has the weight of that name.
std::string_view ModuleOf(std::string_view weight_name) noexcept;

// Whether transformers and vLLM may quantize the weight: the matrices of products.
bool IsLinear(TensorRole role) noexcept;

}  // namespace phiq::torch
