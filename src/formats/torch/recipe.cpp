// The types as a table, under the names that llm-compressor's presets and published models have.
#include "formats/torch/recipe.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "model/architecture.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::torch {
namespace {

// Bits per weight are Phi-3.5-mini's, whose embedding and head stay BF16.
// clang-format off
constexpr Type kTypes[] = {
    {"W8A16", "8.5 bits, compressed-tensors: nearly lossless; not for vLLM on CPUs", Box::kPacked, 8},
    {"GPTQ-Int8", "8.5 bits, the same in the tensors of GPTQ", Box::kGptq, 8},
    {"W8A8", "8.4 bits, compressed-tensors: activations in 8 bits, too, as the model runs", Box::kIntegers, 8},
    {"W4A16", "4.7 bits, compressed-tensors: the usual choice", Box::kPacked, 4},
    {"GPTQ-Int4", "4.8 bits, the same in the tensors of GPTQ", Box::kGptq, 4},
    {"AWQ", "4.8 bits, with zero points, in the tensors of AWQ", Box::kAwq, 4},
};
// clang-format on

}  // namespace

std::string_view QuantMethod(Box box) noexcept {
  if (IsCompressedTensors(box)) return "compressed-tensors";
  return box == Box::kGptq ? "gptq" : "awq";
}

std::span<const Type> Types() noexcept { return kTypes; }

const Type& FindType(std::string_view name) {
  if (const Type* found = FindByName(kTypes, name)) return *found;
  throw UnknownType(name, NamesOf(kTypes));
}

void CheckModel(const ModelConfig& config) {
  if (config.architecture == kPhi3.class_name) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("quantized folders are of {} only, not of {}",
                                                   kPhi3.class_name, Escape(config.architecture)))
      .In("config.json");
}

std::string_view ModuleOf(std::string_view weight_name) noexcept {
  constexpr std::string_view kWeight = ".weight";
  if (weight_name.ends_with(kWeight)) weight_name.remove_suffix(kWeight.size());
  return weight_name;
}

bool IsLinear(TensorRole role) noexcept {
  return !StaysFloat(role) && role != TensorRole::kTokenEmbedding;
}

}  // namespace phiq::torch
