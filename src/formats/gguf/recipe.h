// The file types of llama.cpp: which tensor type each role and layer gets.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "phiq/format.h"
#include "phiq/ggml_type.h"
#include "phiq/model.h"

namespace phiq::gguf {

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

struct Recipe {
  std::string_view name;
  std::string_view description;
  GgmlType base;    // of everything that the following leave
  GgmlType output;  // of the output head, or of the embedding that is one with it
  RoleType attention_qkv, attention_output, mlp_down;
  std::optional<RoleType> mlp_down_with_matrix = std::nullopt;  // where it is another one
};

// What llama-quantize does, with an importance matrix and without; largest first.
// Source   docs/profiles.md.
std::span<const Recipe> Recipes() noexcept;

// By name, any case, with llama-quantize's aliases (Q3_K, Q4_K, Q5_K).
// Throws   kUsage: no such name (with a suggestion). kUnsupported: one that phiq does not write,
//          saying why.
const Recipe& FindRecipe(std::string_view name);

struct TypeChoice {
  GgmlType type;
  std::string reason;
};

// The type of a matrix (norms are F32 in every recipe).
// `tied`          the token embedding is the output head too.
// `with_matrix`   codes are chosen by an importance matrix.
TypeChoice ChooseType(const Recipe& recipe, const ModelConfig& config, TensorRole role,
                      std::int32_t layer, bool tied, bool with_matrix);

}  // namespace phiq::gguf
