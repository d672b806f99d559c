// What --type and --group-size mean for LiteRT.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "phiq/encoding.h"
#include "phiq/model.h"

namespace phiq::litert {

// A type of the whole file: bits of the weights of each kind; 0: floats.
struct Recipe {
  std::string_view name;
  std::string_view description;
  int bits;            // of the matrices of the layers
  int attention_bits;  // of those of attention
  int embedding_bits;  // of embedding and head

  int BitsOf(TensorRole role) const noexcept;
};

// Largest first.
std::span<const Recipe> Recipes() noexcept;

// By name, any case. Throws kUsage (with a suggestion); kUnsupported: one that phiq does not write.
const Recipe& FindRecipe(std::string_view name);

// The type of one tensor: float32, 8 bits with a scale for each row, or 4 bits with a scale for
// each group (group_size 0: for each row).
Encoding EncodingOf(int bits, std::uint32_t group_size) noexcept;

}  // namespace phiq::litert
