// What a model computes, as the signatures of a LiteRT model: a prefill for each length, and
// decode.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/litert/graph.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::litert {

inline constexpr std::string_view kDecode = "decode";
inline constexpr std::string_view kPrefill = "prefill_";  // and the number of tokens
inline constexpr std::string_view kScalesSuffix = "/scales";

// What the signatures are made for.
struct GraphChoices {
  std::uint32_t cache_length = 0;
  std::vector<std::uint32_t> prefill_lengths;  // each divides the cache's
  // Rotary angles of the long factors, for every text; only where a model has them.
  bool long_factors = false;

  bool operator==(const GraphChoices&) const = default;
};

// Layout     weights are the first tensors of each subgraph, in the order of the lines, each with
// its
//            scales behind it where these are a tensor.
// Requires   lines of the encodings of recipe.h, a line for each weight of the model.
ModelGraph BuildModelGraph(const ModelConfig& config, std::span<const PlanLine> lines,
                           const GraphChoices& choices);

}  // namespace phiq::litert
