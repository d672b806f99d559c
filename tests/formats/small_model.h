// A small model with the things that Phi models differ in, for what reads outputs back.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "phiq/convert.h"
#include "phiq/error.h"

namespace phiq::testing {

// config.json: 2 layers, hidden 64, 4 heads of 16, longrope from 32 to 128 positions.
inline nlohmann::json SmallConfig() {
  return nlohmann::json::parse(R"({
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu",
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2112,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 128,
    "original_max_position_embeddings": 32, "sliding_window": null, "tie_word_embeddings": false,
    "bos_token_id": 1, "eos_token_id": 2048, "pad_token_id": 2048,
    "rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
                     "long_factor": [1, 2, 3, 4, 5, 6, 7, 8]}})");
}

// What a call throws: code and line. kNo and no text: nothing.
inline std::pair<ErrorCode, std::string> Thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kNo, ""};
}

inline void ConvertTo(const std::string& model, const std::string& output, PlanOptions target) {
  ConvertOptions options;
  options.model = model;
  options.output = output;
  options.targets.push_back(std::move(target));
  options.fsync = false;
  options.threads = 1;
  Convert(options, {});
}

}  // namespace phiq::testing
