// What a device needs to run an output: its files, and what the runtime keeps beside them.
#pragma once

#include <cstdint>
#include <optional>

#include "phiq/convert.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq {

// By the rule of the format's runtime (Format::runtime_memory), of one text:
//   cache     keys and values of every layer, for as many tokens as there is room for
//   working   float32: of the tokens of a prompt that run side by side the residual stream, a
//             layer's widest products and what they are made to, and the logits; where the runtime
//             keeps them, attention's scores of all heads
// The runtime's own code, and what it holds for a moment while it loads, are not counted.
//
// `n_ctx`    ConvertOptions::n_ctx
// Returns    nullopt: no runtime runs such files as they are.
// Throws     kUsage: a context that the model or the output does not have.
// Source     docs/mix.md "What a device needs".
std::optional<DeviceMemory> DeviceMemoryOf(const ModelConfig& config, const Plan& plan,
                                           std::uint64_t files_bytes,
                                           std::optional<std::uint32_t> n_ctx);

}  // namespace phiq
