// The types as a table.
#include "formats/litert/recipe.h"

#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::litert {
namespace {

// Bits per weight are Phi-3.5-mini's.
// clang-format off
constexpr Recipe kRecipes[] = {
    {"fp32", "32.00 bits, exact", 0, 0, 0},
    {"int8", "8.01 bits, a scale for each row, nearly lossless", 8, 8, 8},
    {"int4_attention8", "5.79 bits, 8 of them in attention, embedding and head", 4, 8, 8},
    {"int4", "4.68 bits in groups of 32, 8 in embedding and head: the usual choice", 4, 4, 8},
    {"int4_all", "4.50 bits, embedding and head too", 4, 4, 4},
};
// clang-format on

}  // namespace

int Recipe::BitsOf(TensorRole role) const noexcept {
  switch (role) {
    case TensorRole::kTokenEmbedding:
    case TensorRole::kOutputHead:
      return embedding_bits;
    case TensorRole::kAttentionQkv:
    case TensorRole::kAttentionOutput:
      return attention_bits;
    default:
      return bits;
  }
}

std::span<const Recipe> Recipes() noexcept { return kRecipes; }

const Recipe& FindRecipe(std::string_view name) {
  if (const Recipe* found = FindByName(kRecipes, name)) return *found;
  for (const std::string_view half : {"fp16", "bf16"}) {
    if (!EqualsIgnoringCase(half, name)) continue;
    throw Error(ErrorCode::kUnsupported,
                std::string("type ") + std::string(half) +
                    " is not written: LiteRT's CPU kernels multiply with float32 or integers")
        .Hint("use fp32 or int8");
  }
  throw UnknownType(name, NamesOf(kRecipes));
}

Encoding EncodingOf(int bits, std::uint32_t group_size) noexcept {
  if (bits == 0) return GgmlType::kF32;
  GroupEncoding groups;
  groups.code = bits == 8 ? Code::kI8 : Code::kI4;
  groups.group_size = bits == 8 ? 0 : group_size;
  groups.scale = groups.group_size == 0 ? ScaleType::kF32 : ScaleType::kF16;
  groups.offset = Offset::kNone;
  groups.positive_scales = true;
  return groups;
}

}  // namespace phiq::litert
