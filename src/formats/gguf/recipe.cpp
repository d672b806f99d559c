// The recipes as a table, and the names that are refused with their reasons.
#include "formats/gguf/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::gguf {
namespace {

using enum GgmlType;

constexpr RoleType All(GgmlType type) { return {type, Layers::kAll, type}; }

// One type for everything but the output head.
constexpr Recipe Uniform(std::string_view name, std::string_view description, GgmlType type,
                         GgmlType output) {
  return {name, description, type, output, All(type), All(type), All(type)};
}

// The bits are those of a whole Phi-3.5-mini file: 8 * data bytes / weights.
// clang-format off
constexpr Recipe kRecipes[] = {
    Uniform("F32", "32.00 bits, exact", kF32, kF32),
    Uniform("F16", "16.00 bits, half floats", kF16, kF16),
    Uniform("BF16", "16.00 bits, exact for bfloat16 checkpoints", kBF16, kBF16),
    Uniform("Q8_0", "8.50 bits, nearly lossless", kQ8_0, kQ8_0),
    Uniform("Q6_K", "6.56 bits, very close to Q8_0", kQ6_K, kQ6_K),
    Uniform("Q5_1", "6.02 bits, older than the K types", kQ5_1, kQ6_K),
    {"Q5_K_M", "5.77 bits, K type, sensitive layers in Q6_K", kQ5_K, kQ6_K,
     {kQ6_K, Layers::kSensitive, kQ5_K}, All(kQ5_K), {kQ6_K, Layers::kSensitive, kQ5_K}},
    Uniform("Q5_K_S", "5.53 bits, K type", kQ5_K, kQ6_K),
    {"Q5_0", "5.53 bits, older than the K types", kQ5_0, kQ6_K,
     All(kQ5_0), All(kQ5_0), All(kQ5_0), RoleType{kQ5_1, Layers::kFirstEighth, kQ5_0}},
    Uniform("Q4_1", "5.04 bits, older than the K types", kQ4_1, kQ6_K),
    {"Q4_K_M", "5.02 bits, K type, sensitive layers in Q6_K: the usual choice", kQ4_K, kQ6_K,
     {kQ6_K, Layers::kSensitive, kQ4_K}, All(kQ4_K), {kQ6_K, Layers::kSensitive, kQ4_K}},
    {"Q4_K_S", "4.61 bits, K type, first layers in Q5_K", kQ4_K, kQ6_K,
     {kQ5_K, Layers::kFirstFour, kQ4_K}, All(kQ4_K), {kQ5_K, Layers::kFirstEighth, kQ4_K}},
    {"Q3_K_L", "4.61 bits, K type, attention and down projections in Q5_K", kQ3_K, kQ6_K,
     All(kQ5_K), All(kQ5_K), All(kQ5_K)},
    {"IQ4_NL", "4.58 bits, non-linear codes, blocks of 32", kIQ4_NL, kQ6_K,
     {kQ5_K, Layers::kSharedKv, kIQ4_NL}, All(kIQ4_NL), {kQ5_K, Layers::kFirstEighth, kIQ4_NL},
     All(kIQ4_NL)},
    {"Q4_0", "4.55 bits, older than the K types, fast on small CPUs", kQ4_0, kQ6_K,
     All(kQ4_0), All(kQ4_0), All(kQ4_0), RoleType{kQ4_1, Layers::kFirstEighth, kQ4_0}},
    {"IQ4_XS", "4.34 bits, non-linear codes, blocks of 256", kIQ4_XS, kQ6_K,
     {kQ5_K, Layers::kSharedKv, kIQ4_XS}, All(kIQ4_XS), {kQ5_K, Layers::kFirstEighth, kIQ4_XS},
     All(kIQ4_XS)},
    {"Q3_K_M", "4.11 bits, K type, attention and down projections in Q4_K", kQ3_K, kQ6_K,
     {kQ5_K, Layers::kFirstTwo, kQ4_K}, All(kQ4_K), {kQ5_K, Layers::kFirstSixteenth, kQ4_K}},
    Uniform("Q3_K_S", "3.52 bits, K type, visible loss", kQ3_K, kQ6_K),
    {"Q2_K", "3.16 bits, K type, large loss", kQ2_K, kQ6_K,
     {kQ4_K, Layers::kSharedKv, kQ3_K}, All(kQ3_K), All(kQ3_K)},
};
// clang-format on

struct Alias {
  std::string_view name, means;
};
constexpr Alias kAliases[] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

// The other file types of llama.cpp, and words that its users may try.
struct Refused {
  std::string_view name, why;
};
constexpr std::string_view kNeedsMatrix =
    "it is made with an importance matrix only, and this version has no method for it";
constexpr std::string_view kWantsMatrix =
    "it is made for an importance matrix, and this version has no method for it";
constexpr std::string_view kTernary = "three values a weight ruin a Phi model";
constexpr std::string_view kTooFewBits = "so few bits a weight ruin a Phi model";
constexpr std::string_view kObsolete = "it is obsolete, llama.cpp has removed it";
// clang-format off
constexpr Refused kRefused[] = {
    {"Q2_K_S", kNeedsMatrix},    {"IQ1_S", kNeedsMatrix},     {"IQ1_M", kNeedsMatrix},
    {"IQ2_XXS", kNeedsMatrix},   {"IQ2_XS", kNeedsMatrix},    {"IQ2_S", kNeedsMatrix},
    {"IQ2_M", kNeedsMatrix},     {"IQ3_XXS", kNeedsMatrix},   {"IQ3_XS", kNeedsMatrix},
    {"IQ3_S", kWantsMatrix},     {"IQ3_M", kWantsMatrix},     {"TQ1_0", kTernary},
    {"TQ2_0", kTernary},         {"Q1_0", kTooFewBits},       {"Q2_0", kTooFewBits},
    {"NVFP4", "it is too new for most builds of llama.cpp and comes later"},
    {"MXFP4_MOE", "it is for models with experts, and this version does not write it"},
    {"Q4_1_SOME_F16", kObsolete}, {"Q4_2", kObsolete},        {"Q4_3", kObsolete},
    {"Q4_0_4_4", kObsolete},     {"Q4_0_4_8", kObsolete},     {"Q4_0_8_8", kObsolete},
};
// clang-format on

bool IsAmong(Layers layers, const ModelConfig& config, std::int32_t layer) {
  const auto i = static_cast<std::uint32_t>(layer);
  const std::uint32_t n = config.n_layers;
  switch (layers) {
    case Layers::kAll:
      return true;
    case Layers::kFirstTwo:
      return i < 2;
    case Layers::kFirstFour:
      return i < 4;
    case Layers::kFirstSixteenth:
      return i < n / 16;
    case Layers::kFirstEighth:
      return i < n / 8;
    case Layers::kSensitive:
      return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case Layers::kSharedKv:
      return config.n_heads / config.n_kv_heads >= 4;
  }
  return false;
}

std::string_view Describe(Layers layers) {
  switch (layers) {
    case Layers::kAll:
      return "in all layers";
    case Layers::kFirstTwo:
      return "in layers 0 and 1";
    case Layers::kFirstFour:
      return "in layers 0 to 3";
    case Layers::kFirstSixteenth:
      return "in the first sixteenth of the layers";
    case Layers::kFirstEighth:
      return "in the first eighth of the layers";
    case Layers::kSensitive:
      return "in the outer eighths and every third layer between";
    case Layers::kSharedKv:
      return "as 4 or more heads share each key and value";
  }
  return "";
}

}  // namespace

std::span<const Recipe> Recipes() noexcept { return kRecipes; }

const Recipe& FindRecipe(std::string_view name) {
  const Alias* const alias = FindByName(kAliases, name);
  if (const auto* recipe = FindByName(kRecipes, alias != nullptr ? alias->means : name))
    return *recipe;
  if (const auto* refused = FindByName(kRefused, name)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("type {} is not written: {}", refused->name, refused->why))
        .Hint("`phiq profiles --types` lists the types");
  }
  throw UnknownType(name, NamesOf(kRecipes));
}

TypeChoice ChooseType(const Recipe& recipe, const ModelConfig& config, TensorRole role,
                      std::int32_t layer, bool tied, bool with_matrix) {
  if (role == TensorRole::kOutputHead) return {recipe.output, "output head"};
  if (role == TensorRole::kTokenEmbedding && tied) {
    return {recipe.output, "tied embedding: the output head too"};
  }
  RoleType rule = All(recipe.base);
  if (role == TensorRole::kAttentionQkv || role == TensorRole::kAttentionValue)
    rule = recipe.attention_qkv;
  if (role == TensorRole::kAttentionOutput) rule = recipe.attention_output;
  if (role == TensorRole::kMlpDown || role == TensorRole::kExpertDown) {
    rule =
        with_matrix && recipe.mlp_down_with_matrix ? *recipe.mlp_down_with_matrix : recipe.mlp_down;
  }

  const bool is_among = IsAmong(rule.layers, config, layer);
  const GgmlType type = is_among ? rule.type : rule.otherwise;
  if (type == recipe.base) return {type, fmt::format("{}: default", recipe.name)};
  if (is_among && rule.layers != Layers::kAll) {
    return {type, fmt::format("{}: more bits {}", recipe.name, Describe(rule.layers))};
  }
  return {type, fmt::format("{}: more bits for this role", recipe.name)};
}

}  // namespace phiq::gguf
