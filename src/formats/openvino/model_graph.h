// The Phi-3 architecture as a stateful OpenVINO graph.
#pragma once

#include <string_view>

#include "formats/openvino/graph.h"
#include "phiq/plan.h"

namespace phiq::openvino {

// Names of constants that say how positions are turned and whom a token sees; those of norms end in
// kEpsilonSuffix.
inline constexpr std::string_view kFrequencies = "rotary/frequencies";           // [1, n, 1]
inline constexpr std::string_view kLongFrequencies = "rotary/long_frequencies";  // [1, n, 1]
inline constexpr std::string_view kLastShortPosition = "rotary/last_short_position";
inline constexpr std::string_view kCosineFactor = "rotary/cos/factor";
inline constexpr std::string_view kSineFactor = "rotary/sin/factor";
inline constexpr std::string_view kMinusWindow = "mask/minus_window";
inline constexpr std::string_view kEpsilonSuffix = "/epsilon";

// Builds the whole graph for the plan's lines. Reads like the model: mask, rotary tables,
// embedding, then attention and MLP of each layer, then the head. The caller decides where the
// stored constants stand.
//
// Throws   kBadData: rope factors or theta that give no finite angles.
// Source   docs/formats/openvino.md "The model".
GraphBuilder BuildModelGraph(const ModelConfig& config, const Plan& plan);

}  // namespace phiq::openvino
