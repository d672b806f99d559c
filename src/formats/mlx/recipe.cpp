// The types as a table, and the rule of the recipes.
#include "formats/mlx/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"
#include "stored/fill_width.h"

namespace phiq::mlx {
namespace {

using enum FloatType;

// Bits per weight are Phi-3.5-mini's, with groups of 64.
// clang-format off
constexpr Type kTypes[] = {
    {"F32", "32.00 bits, exact", kF32, nullptr, 0, 0},
    {"F16", "16.00 bits, half floats", kF16, nullptr, 0, 0},
    {"BF16", "16.00 bits, exact for bfloat16 checkpoints", kBF16, nullptr, 0, 0},
    {"8bit", "8.50 bits, nearly lossless", kF32, nullptr, 8, 0},
    {"mxfp8", "8.25 bits, small floats; between 5bit and 6bit in quality", kF32, &kMxfp8, 8, 0},
    {"6bit", "6.50 bits, hardly worse than 8bit", kF32, nullptr, 6, 0},
    {"5bit", "5.50 bits", kF32, nullptr, 5, 0},
    {"mixed_4_6", "5.00 bits, 6 of them in half of the qkv and down projections and the head", kF32, nullptr, 4, 6},
    {"4bit", "4.50 bits, the usual choice", kF32, nullptr, 4, 0},
    {"nvfp4", "4.50 bits, small floats; 4bit is better for weights this small", kF32, &kNvfp4, 4, 0},
    {"mxfp4", "4.25 bits, small floats", kF32, &kMxfp4, 4, 0},
    {"mixed_3_6", "4.25 bits, as mixed_4_6", kF32, nullptr, 3, 6},
    {"mixed_3_4", "3.75 bits, as mixed_4_6", kF32, nullptr, 3, 4},
    {"3bit", "3.50 bits, poor", kF32, nullptr, 3, 0},
    {"mixed_2_6", "3.50 bits, as mixed_4_6; very poor", kF32, nullptr, 2, 6},
    {"2bit", "2.50 bits, unusable without a better method", kF32, nullptr, 2, 0},
};
// clang-format on

}  // namespace

std::span<const Type> Types() noexcept { return kTypes; }

const Type& FindType(std::string_view name) {
  if (const Type* found = FindByName(kTypes, name)) return *found;
  throw UnknownType(name, NamesOf(kTypes));
}

void CheckModel(const ModelConfig& config) {
  const auto unsupported = [](std::string message) {
    return Error(ErrorCode::kUnsupported, std::move(message)).In("config.json");
  };
  // mlx-lm has its models by name, with names of their own for the weights.
  if (config.architecture == kPhiMoe.class_name) {
    if (config.tie_word_embeddings)
      throw unsupported("tie_word_embeddings true: mlx-lm's phimoe has a head of its own");
    if (config.head_dim * config.n_heads != config.hidden_size || !config.attention_bias ||
        !config.lm_head_bias)
      throw unsupported("mlx-lm's phimoe has heads that fill the width, and all biases");
    return;
  }
  if (config.architecture != kPhi3.class_name)
    throw unsupported(fmt::format("mlx-lm has no {}", Escape(config.architecture)));
  if (config.rope_scaling == RopeScalingType::kYarn)
    throw unsupported("rope type yarn is not in mlx-lm's phi3");
  if (config.attention_factor) {
    throw unsupported(
        fmt::format("attention_factor {} is not what the formula gives, and mlx-lm's phi3 has "
                    "the formula alone",
                    *config.attention_factor));
  }
  // mlx-lm rounds down for each head, phiq over the whole width.
  const auto rope_dim = static_cast<std::uint32_t>(config.partial_rotary_factor * config.head_dim);
  if (rope_dim != config.rope_dim) {
    throw unsupported(
        fmt::format("partial_rotary_factor {} rotates {} dimensions of a head, in "
                    "mlx-lm {}",
                    config.partial_rotary_factor, config.rope_dim, rope_dim));
  }
}

Expression OwnExpression(const ModelConfig& config) {
  Expression expression;
  if (config.n_experts == 0) return expression;
  FillWidth(config, "mlx-lm's phimoe", expression);
  expression.has_all_biases = true;
  return expression;
}

std::optional<std::string_view> FavouredBecause(TensorRole role, std::int32_t layer,
                                                std::uint32_t n_layers) noexcept {
  if (role == TensorRole::kOutputHead) return "the output head";
  using enum TensorRole;
  const bool is_value = role == kAttentionQkv || role == kAttentionValue;
  if (!is_value && role != kMlpDown && role != kExpertDown) return std::nullopt;
  const auto i = static_cast<std::uint32_t>(layer);
  const std::uint32_t eighth = n_layers / 8;
  // Of the layers before the first eighth's end the first condition has spoken.
  if (i < eighth || i >= 7 * n_layers / 8) return "the first or last eighth of the layers";
  if ((i - eighth) % 3 == 2) return "every third layer";
  return std::nullopt;
}

}  // namespace phiq::mlx
