// What --type and the encoding options mean for MLX.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "phiq/encoding.h"
#include "phiq/format.h"
#include "phiq/model.h"
#include "stored/expression.h"

namespace phiq::mlx {

// Floats, one encoding for all matrices, or two widths (a recipe).
struct Type {
  std::string_view name;
  std::string_view description;
  FloatType float_type;               // of floats
  const GroupEncoding* small_floats;  // nullptr: codes are integers
  int bits;                           // of codes; 0: floats
  int high_bits;                      // of a recipe, for the matrices that it favours; else 0

  bool has_codes() const noexcept { return bits != 0; }
  bool is_recipe() const noexcept { return high_bits != 0; }
  bool is_affine() const noexcept { return has_codes() && small_floats == nullptr; }
};

inline constexpr std::uint32_t kDefaultGroup = 64;  // of affine codes

// --mlx-rounding: how ties are rounded.
inline constexpr std::string_view kRoundings[] = {"cpu", "metal"};

// Largest first.
std::span<const Type> Types() noexcept;

// By name, any case. Throws kUsage (with a suggestion).
const Type& FindType(std::string_view name);

// Throws kUnsupported: what mlx-lm's phi3 computes otherwise than the model, whatever the types.
void CheckModel(const ModelConfig& config);
// What mlx-lm cannot load without: all biases of PhiMoE, and heads that fill the width.
Expression OwnExpression(const ModelConfig& config);

// Whether a recipe gives a matrix its high width, and why; nullopt: the low one. The rule of
// mlx-lm's --quant-predicate, whose search for "v_proj" finds the fused qkv_proj.
std::optional<std::string_view> FavouredBecause(TensorRole role, std::int32_t layer,
                                                std::uint32_t n_layers) noexcept;

}  // namespace phiq::mlx
