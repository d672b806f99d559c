// What LiteRT-LM is told of a model beside its weights: stop tokens, context, chat template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/litert/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::litert {

// The message LlmMetadata of LiteRT-LM's schema.
//
// `plan`   the decisions about chat template and stop tokens are added to it.
// Throws   as ReadGenerationConfig.
std::vector<std::byte> MakeLlmMetadata(const SideFiles& source, const Model& model,
                                       GraphPlan& plan);

// What phiq reads of such a message.
struct LlmMetadata {
  std::optional<std::uint32_t> start_token;
  std::vector<std::uint32_t> stop_tokens;
  std::uint64_t max_num_tokens = 0;
  std::string chat_template;
};
// Fields that are not read are passed over.
// Throws   kBadData: no message of protobuf.
LlmMetadata ParseLlmMetadata(std::string_view bytes, const std::string& path);

// The template for an engine that gives the content of a message as a list of parts: what reads a
// message's content reads the texts of its parts. nullopt: nothing of it reads the content.
std::optional<std::string> WithContentParts(const std::string& chat_template);

}  // namespace phiq::litert
