// Phi3ForCausalLM: Phi-3-mini, Phi-3.5-mini, Phi-3-medium, Phi-4, Phi-4-mini.
#include <array>

#include "model/architecture.h"

namespace phiq {
namespace {

std::uint64_t One(const ModelConfig&) { return 1; }
std::uint64_t Vocab(const ModelConfig& config) { return config.vocab_size; }
std::uint64_t Hidden(const ModelConfig& config) { return config.hidden_size; }
std::uint64_t Inner(const ModelConfig& config) { return config.intermediate_size; }
std::uint64_t TwiceInner(const ModelConfig& config) { return 2 * Inner(config); }
std::uint64_t Query(const ModelConfig& config) {
  return std::uint64_t{config.n_heads} * config.head_dim;
}
std::uint64_t Key(const ModelConfig& config) {
  return std::uint64_t{config.n_kv_heads} * config.head_dim;
}
std::uint64_t QueryKeyValue(const ModelConfig& config) { return Query(config) + 2 * Key(config); }

using enum TensorRole;

constexpr std::array kQkvParts = {
    PartSpec{TensorPart::kQuery, "model.layers.{}.self_attn.q_proj.weight", Query},
    PartSpec{TensorPart::kKey, "model.layers.{}.self_attn.k_proj.weight", Key},
    PartSpec{TensorPart::kValue, "model.layers.{}.self_attn.v_proj.weight", Key}};
constexpr std::array kGateUpParts = {
    PartSpec{TensorPart::kGate, "model.layers.{}.mlp.gate_proj.weight", Inner},
    PartSpec{TensorPart::kUp, "model.layers.{}.mlp.up_proj.weight", Inner}};

constexpr std::array kWeights = {
    WeightSpec{kTokenEmbedding, "model.embed_tokens.weight", Vocab, Hidden,
               "vocab_size, hidden_size"},
    WeightSpec{kAttentionNorm, "model.layers.{}.input_layernorm.weight", One, Hidden,
               "hidden_size"},
    WeightSpec{kAttentionQkv, "model.layers.{}.self_attn.qkv_proj.weight", QueryKeyValue, Hidden,
               "(num_attention_heads + 2 * num_key_value_heads) * head size, hidden_size",
               kQkvParts},
    WeightSpec{kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight", Hidden, Query,
               "hidden_size"},
    WeightSpec{kMlpNorm, "model.layers.{}.post_attention_layernorm.weight", One, Hidden,
               "hidden_size"},
    WeightSpec{kMlpGateUp, "model.layers.{}.mlp.gate_up_proj.weight", TwiceInner, Hidden,
               "2 * intermediate_size, hidden_size", kGateUpParts},
    WeightSpec{kMlpDown, "model.layers.{}.mlp.down_proj.weight", Hidden, Inner,
               "hidden_size, intermediate_size"},
    WeightSpec{kOutputNorm, "model.norm.weight", One, Hidden, "hidden_size"},
    WeightSpec{kOutputHead, "lm_head.weight", Vocab, Hidden, "vocab_size, hidden_size"}};

Network Phi3Network(const ModelConfig& config) {
  const NormSpec norm = RmsNormSpec{config.rms_norm_eps};
  const DecoderLayer layer = {
      norm,
      {config.n_heads, config.n_kv_heads, config.head_dim, config.rope_dim, config.sliding_window},
      norm,
      GatedMlp{config.intermediate_size}};
  return {std::vector<DecoderLayer>(config.n_layers, layer), norm};
}

}  // namespace

constexpr Architecture kPhi3 = {"Phi3ForCausalLM", "phi3", kWeights, Phi3Network};

}  // namespace phiq
