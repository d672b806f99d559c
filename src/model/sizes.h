// Numbers of rows and columns that the tables of several architectures use.
#pragma once

#include <cstdint>

#include "phiq/model.h"

namespace phiq::sizes {

inline std::uint64_t OneRow(const ModelConfig&) { return 1; }
inline std::uint64_t VocabSize(const ModelConfig& config) { return config.vocab_size; }
inline std::uint64_t HiddenSize(const ModelConfig& config) { return config.hidden_size; }
inline std::uint64_t InnerSize(const ModelConfig& config) { return config.intermediate_size; }
inline std::uint64_t GateUpRows(const ModelConfig& config) { return 2 * InnerSize(config); }
inline std::uint64_t QueryRows(const ModelConfig& config) {
  return std::uint64_t{config.n_heads} * config.head_dim;
}
inline std::uint64_t KeyRows(const ModelConfig& config) {
  return std::uint64_t{config.n_kv_heads} * config.head_dim;
}
inline std::uint64_t QkvRows(const ModelConfig& config) {
  return QueryRows(config) + 2 * KeyRows(config);
}

}  // namespace phiq::sizes
