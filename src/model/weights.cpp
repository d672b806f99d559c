#include "model/weights.h"

#include <fmt/format.h>

#include <string_view>

namespace phiq {
namespace {

std::string_view LayerName(TensorRole role) noexcept {
  switch (role) {
    case TensorRole::kAttentionNorm:
      return "input_layernorm";
    case TensorRole::kAttentionQkv:
      return "self_attn.qkv_proj";
    case TensorRole::kAttentionOutput:
      return "self_attn.o_proj";
    case TensorRole::kMlpNorm:
      return "post_attention_layernorm";
    case TensorRole::kMlpGateUp:
      return "mlp.gate_up_proj";
    case TensorRole::kMlpDown:
      return "mlp.down_proj";
    default:
      return "";
  }
}

}  // namespace

std::vector<WeightId> WeightsOf(const ModelConfig& config) {
  using enum TensorRole;
  std::vector<WeightId> weights = {{kTokenEmbedding, -1}};
  for (std::uint32_t i = 0; i < config.n_layers; ++i) {
    for (const TensorRole role :
         {kAttentionNorm, kAttentionQkv, kAttentionOutput, kMlpNorm, kMlpGateUp, kMlpDown})
      weights.push_back({role, static_cast<std::int32_t>(i)});
  }
  weights.push_back({kOutputNorm, -1});
  weights.push_back({kOutputHead, -1});
  return weights;
}

std::string CheckpointName(WeightId weight) {
  switch (weight.role) {
    case TensorRole::kTokenEmbedding:
      return "model.embed_tokens.weight";
    case TensorRole::kOutputHead:
      return "lm_head.weight";
    case TensorRole::kOutputNorm:
      return "model.norm.weight";
    default:
      return fmt::format("model.layers.{}.{}.weight", weight.layer, LayerName(weight.role));
  }
}

WeightShape ShapeOf(const ModelConfig& config, TensorRole role) noexcept {
  const std::uint64_t hidden = config.hidden_size;
  const std::uint64_t inner = config.intermediate_size;
  switch (role) {
    case TensorRole::kTokenEmbedding:
    case TensorRole::kOutputHead:
      return {config.vocab_size, hidden};
    case TensorRole::kOutputNorm:
    case TensorRole::kAttentionNorm:
    case TensorRole::kMlpNorm:
      return {1, hidden};
    case TensorRole::kAttentionQkv:
      return {hidden + 2ULL * config.n_kv_heads * config.head_dim, hidden};
    case TensorRole::kAttentionOutput:
      return {hidden, hidden};
    case TensorRole::kMlpGateUp:
      return {2 * inner, hidden};
    case TensorRole::kMlpDown:
      return {hidden, inner};
  }
  return {};
}

}  // namespace phiq
