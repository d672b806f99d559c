// A LiteRT file with every byte's place decided.
#pragma once

#include <string_view>

#include "formats/layout.h"
#include "formats/litert/graph.h"
#include "formats/litert/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::litert {

// What phiq says of a model in its flatbuffer, besides facts ("phiq.nan_policy").
inline constexpr std::string_view kTypeKey = "phiq.type";
inline constexpr std::string_view kConfigKey = "phiq.config";  // config.json

inline constexpr std::string_view kConfigFile = "config.json";
inline constexpr std::string_view kSentencePieceFile = "tokenizer.model";

// Of the weights in a model file: a cache line, as the runtime maps them as they are.
inline constexpr std::uint64_t kArrayAlignment = 64;

// A model file (.tflite): the flatbuffer, and where the writer's arrays lie.
struct PlacedModel {
  std::vector<std::byte> head;
  std::vector<PlacedArray> arrays;  // from the start of the model
  std::uint64_t size_bytes = 0;
};
PlacedModel PlaceModel(const ModelGraph& graph, std::span<const PlanLine> lines);

// `plan`   decisions about tokenizer and chat template are added to it.
// Throws   kInput: no tokenizer, no config.json. kBadData: what they or generation_config.json say
//          cannot be.
OutputLayout MakeLayout(const SideFiles& source, const Model& model, GraphPlan& plan);

std::vector<Decision> TokenizerDecisions(const Model& model);

}  // namespace phiq::litert
