// The file types of llama.cpp: which tensor type each role and layer gets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "phiq/ggml_type.h"
#include "phiq/model.h"
#include "phiq/profile.h"

namespace phiq {

// The layers in which a role gets its better type.
enum class Layers {
  kAll,
  kFirstTwo,
  kFirstFour,
  kFirstSixteenth,
  kFirstEighth,
  kSensitive,  // the outer eighths, and every third layer between
  kSharedKv,   // all, in models where four or more query heads share a key and value head
};

struct RoleType {
  GgmlType type;
  Layers layers;
  GgmlType otherwise;  // in the other layers
};

struct GgufRecipe {
  std::string_view name;
  std::string_view description;
  GgmlType base;    // of everything that the following leave
  GgmlType output;  // of the output head, or of the embedding that is one with it
  RoleType attention_qkv, attention_output, mlp_down;
};

// What llama-quantize does without an importance matrix; largest first.
// Source   docs/profiles.md.
std::span<const GgufRecipe> GgufRecipes() noexcept;

// By name, any case, with llama-quantize's aliases (Q3_K, Q4_K, Q5_K).
// Throws   kUsage: no such name (with a suggestion). kUnsupported: one that phiq does not write,
//          saying why.
const GgufRecipe& FindGgufRecipe(std::string_view name);

// The recipe that a precision means.
std::string_view GgufTypeOf(Precision precision) noexcept;

struct TypeChoice {
  GgmlType type;
  std::string reason;
};

// The type of a matrix (norms are F32 in every recipe).
// `tied`   the token embedding is the output head too.
TypeChoice ChooseType(const GgufRecipe& recipe, const ModelConfig& config, TensorRole role,
                      std::int32_t layer, bool tied);

}  // namespace phiq
