// The recipes as a table.
#include "formats/onnx/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::onnx {
namespace {

// clang-format off
constexpr Recipe kRecipes[] = {
    {"fp32", "32.00 bits, exact", 0, 0, false, true, nullptr},
    {"fp16", "16.00 bits, half floats", 0, 0, false, true, nullptr},
    {"int8", "8 bits in blocks of 32, nearly lossless", 8, 8, false, false, nullptr},
    {"k_quant_mixed", "4 bits by k_quant, 8 in the head and sensitive layers", 4, 8, true, true, &kKQuant},
    {"k_quant_last", "4 bits by k_quant, 8 in the head", 4, 8, false, true, &kKQuant},
    {"rtn_last", "4 bits by rtn, 8 in the head", 4, 8, false, true, &kRtn},
    {"int4", "4 bits in blocks of 32: the usual choice", 4, 4, false, true, nullptr},
};
// clang-format on

}  // namespace

std::span<const Recipe> Recipes() noexcept { return kRecipes; }

const Recipe& FindRecipe(std::string_view name) {
  if (const Recipe* found = FindByName(kRecipes, name)) return *found;
  if (EqualsIgnoringCase(name, "bf16")) {
    throw Error(ErrorCode::kUnsupported,
                "type bf16 is not written: onnxruntime's CPU provider does not run it");
  }
  throw UnknownType(name, NamesOf(kRecipes));
}

bool HasMoreBits(const ModelConfig& config, TensorRole role, TensorPart part, std::int32_t layer) {
  const bool is_attention = role == TensorRole::kAttentionQkv &&
                            (part == TensorPart::kWhole || part == TensorPart::kValue);
  if (!is_attention && role != TensorRole::kMlpDown) return false;
  // The builder computes with fractions; its rounding is Python's, ties to even.
  const double eighth = config.n_layers / 8.0;
  const double distance = layer - std::nearbyint(eighth);
  return layer < eighth || layer >= 7 * eighth ||
         (distance >= 0 && std::fmod(distance, 3.0) == 2.0);
}

}  // namespace phiq::onnx
