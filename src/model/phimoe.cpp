// PhiMoEForCausalLM: Phi-3.5-MoE, Phi-mini-MoE, Phi-tiny-MoE.
#include <array>

#include "model/architecture.h"
#include "model/sizes.h"

namespace phiq {
namespace {

using enum TensorRole;
using namespace sizes;  // NOLINT(google-build-using-namespace): nothing but functions

std::uint64_t ExpertCount(const ModelConfig& config) { return config.n_experts; }
bool HasAttentionBias(const ModelConfig& config) { return config.attention_bias; }
bool HasHeadBias(const ModelConfig& config) { return config.lm_head_bias; }

constexpr std::string_view kQueryKeys = "num_attention_heads * head size, hidden_size";
constexpr std::string_view kKeyKeys = "num_key_value_heads * head size, hidden_size";

// Published, and written by transformers: a tensor for each expert. Held in memory by
// transformers 5, and so by trainers that save what they hold: the experts one behind the other,
// gate above up.
constexpr std::string_view kStackedGateUp = "model.layers.{}.mlp.experts.gate_up_proj";
constexpr std::string_view kStackedDown = "model.layers.{}.mlp.experts.down_proj";

constexpr std::array kPhiMoeWeights = {
    WeightSpec{kTokenEmbedding, "model.embed_tokens.weight", VocabSize, HiddenSize,
               "vocab_size, hidden_size"},
    WeightSpec{kAttentionNorm, "model.layers.{}.input_layernorm.weight", OneRow, HiddenSize,
               "hidden_size"},
    WeightSpec{kAttentionNormBias, "model.layers.{}.input_layernorm.bias", OneRow, HiddenSize,
               "hidden_size"},
    WeightSpec{kAttentionQuery, "model.layers.{}.self_attn.q_proj.weight", QueryRows, HiddenSize,
               kQueryKeys},
    WeightSpec{.role = kAttentionQueryBias,
               .name = "model.layers.{}.self_attn.q_proj.bias",
               .n_rows = OneRow,
               .row_elements = QueryRows,
               .keys = kQueryKeys,
               .is_there = HasAttentionBias},
    WeightSpec{kAttentionKey, "model.layers.{}.self_attn.k_proj.weight", KeyRows, HiddenSize,
               kKeyKeys},
    WeightSpec{.role = kAttentionKeyBias,
               .name = "model.layers.{}.self_attn.k_proj.bias",
               .n_rows = OneRow,
               .row_elements = KeyRows,
               .keys = kKeyKeys,
               .is_there = HasAttentionBias},
    WeightSpec{kAttentionValue, "model.layers.{}.self_attn.v_proj.weight", KeyRows, HiddenSize,
               kKeyKeys},
    WeightSpec{.role = kAttentionValueBias,
               .name = "model.layers.{}.self_attn.v_proj.bias",
               .n_rows = OneRow,
               .row_elements = KeyRows,
               .keys = kKeyKeys,
               .is_there = HasAttentionBias},
    WeightSpec{kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight", HiddenSize, QueryRows,
               "hidden_size, num_attention_heads * head size"},
    WeightSpec{.role = kAttentionOutputBias,
               .name = "model.layers.{}.self_attn.o_proj.bias",
               .n_rows = OneRow,
               .row_elements = HiddenSize,
               .keys = "hidden_size",
               .is_there = HasAttentionBias},
    WeightSpec{kMlpNorm, "model.layers.{}.post_attention_layernorm.weight", OneRow, HiddenSize,
               "hidden_size"},
    WeightSpec{kMlpNormBias, "model.layers.{}.post_attention_layernorm.bias", OneRow, HiddenSize,
               "hidden_size"},
    WeightSpec{.role = kRouter,
               .name = "model.layers.{}.block_sparse_moe.gate.weight",
               .n_rows = ExpertCount,
               .row_elements = HiddenSize,
               .keys = "num_local_experts, hidden_size",
               .stack = {"model.layers.{}.mlp.router.weight", nullptr, ExpertCount}},
    WeightSpec{.role = kExpertGate,
               .name = "model.layers.{}.block_sparse_moe.experts.*.w1.weight",
               .n_rows = InnerSize,
               .row_elements = HiddenSize,
               .keys = "num_local_experts, intermediate_size, hidden_size",
               .n_matrices = ExpertCount,
               .matrix_name = "model.layers.{}.block_sparse_moe.experts.{}.w1.weight",
               .stack = {kStackedGateUp, nullptr, GateUpRows}},
    WeightSpec{.role = kExpertUp,
               .name = "model.layers.{}.block_sparse_moe.experts.*.w3.weight",
               .n_rows = InnerSize,
               .row_elements = HiddenSize,
               .keys = "num_local_experts, intermediate_size, hidden_size",
               .n_matrices = ExpertCount,
               .matrix_name = "model.layers.{}.block_sparse_moe.experts.{}.w3.weight",
               .stack = {kStackedGateUp, InnerSize, GateUpRows}},
    WeightSpec{.role = kExpertDown,
               .name = "model.layers.{}.block_sparse_moe.experts.*.w2.weight",
               .n_rows = HiddenSize,
               .row_elements = InnerSize,
               .keys = "num_local_experts, hidden_size, intermediate_size",
               .n_matrices = ExpertCount,
               .matrix_name = "model.layers.{}.block_sparse_moe.experts.{}.w2.weight",
               .stack = {kStackedDown, nullptr, HiddenSize}},
    WeightSpec{kOutputNorm, "model.norm.weight", OneRow, HiddenSize, "hidden_size"},
    WeightSpec{kOutputNormBias, "model.norm.bias", OneRow, HiddenSize, "hidden_size"},
    WeightSpec{kOutputHead, "lm_head.weight", VocabSize, HiddenSize, "vocab_size, hidden_size"},
    WeightSpec{.role = kOutputHeadBias,
               .name = "lm_head.bias",
               .n_rows = OneRow,
               .row_elements = VocabSize,
               .keys = "vocab_size",
               .is_there = HasHeadBias}};

// configuration_phimoe.py of transformers 5.23.0.
constexpr ConfigDefaults kPhiMoeDefaults = {.n_kv_heads = 8,
                                            .max_position_embeddings = 131072,
                                            .rms_norm_eps = 1e-5F,
                                            .rope_theta = 1e6F,
                                            .n_experts = 16,
                                            .router_epsilon = 0.01F};

// The first is the name as published, the second what transformers writes.
constexpr ModelClass PhiMoeClass(std::string_view name) {
  return {.name = name,
          .model_type = "phimoe",
          .defaults = kPhiMoeDefaults,
          .rotates_as_own = false,
          .has_head_dim = true,
          .has_bias = true,
          .has_mscale = true};
}
constexpr std::array kPhiMoeClasses = {PhiMoeClass("PhiMoEForCausalLM"),
                                       PhiMoeClass("PhimoeForCausalLM")};

Network PhiMoeNetwork(const ModelConfig& config) {
  const NormSpec norm = LayerNormSpec{config.rms_norm_eps};
  const AttentionSpec attention = {.n_heads = config.n_heads,
                                   .n_kv_heads = config.n_kv_heads,
                                   .head_dim = config.head_dim,
                                   .rope_dim = config.rope_dim,
                                   .sliding_window = config.sliding_window,
                                   .is_split = true,
                                   .has_bias = config.attention_bias};
  const Experts experts = {config.n_experts, config.router_epsilon, {config.intermediate_size}};
  const DecoderLayer layer = {norm, attention, norm, experts};
  return {std::vector<DecoderLayer>(config.n_layers, layer), norm, config.lm_head_bias};
}

}  // namespace

constexpr Architecture kPhiMoe = {"PhiMoEForCausalLM", kPhiMoeClasses, "model.", kPhiMoeWeights,
                                  PhiMoeNetwork};

}  // namespace phiq
