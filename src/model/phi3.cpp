// Phi3ForCausalLM: Phi-3-mini, Phi-3.5-mini, Phi-3-medium, Phi-4, Phi-4-mini.
#include <array>

#include "model/architecture.h"
#include "model/sizes.h"

namespace phiq {
namespace {

using namespace sizes;  // NOLINT(google-build-using-namespace): nothing but functions

constexpr std::array kQkvParts = {
    PartSpec{TensorPart::kQuery, "model.layers.{}.self_attn.q_proj.weight", QueryRows},
    PartSpec{TensorPart::kKey, "model.layers.{}.self_attn.k_proj.weight", KeyRows},
    PartSpec{TensorPart::kValue, "model.layers.{}.self_attn.v_proj.weight", KeyRows}};
constexpr std::array kGateUpParts = {
    PartSpec{TensorPart::kGate, "model.layers.{}.mlp.gate_proj.weight", InnerSize},
    PartSpec{TensorPart::kUp, "model.layers.{}.mlp.up_proj.weight", InnerSize}};

constexpr std::array kWeights = {
    WeightSpec{TensorRole::kTokenEmbedding, "model.embed_tokens.weight", VocabSize, HiddenSize,
               "vocab_size, hidden_size"},
    WeightSpec{TensorRole::kAttentionNorm, "model.layers.{}.input_layernorm.weight", OneRow,
               HiddenSize, "hidden_size"},
    WeightSpec{
        TensorRole::kAttentionQkv, "model.layers.{}.self_attn.qkv_proj.weight", QkvRows, HiddenSize,
        "(num_attention_heads + 2 * num_key_value_heads) * head size, hidden_size", kQkvParts},
    WeightSpec{TensorRole::kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight", HiddenSize,
               QueryRows, "hidden_size"},
    WeightSpec{TensorRole::kMlpNorm, "model.layers.{}.post_attention_layernorm.weight", OneRow,
               HiddenSize, "hidden_size"},
    WeightSpec{TensorRole::kMlpGateUp, "model.layers.{}.mlp.gate_up_proj.weight", GateUpRows,
               HiddenSize, "2 * intermediate_size, hidden_size", kGateUpParts},
    WeightSpec{TensorRole::kMlpDown, "model.layers.{}.mlp.down_proj.weight", HiddenSize, InnerSize,
               "hidden_size, intermediate_size"},
    WeightSpec{TensorRole::kOutputNorm, "model.norm.weight", OneRow, HiddenSize, "hidden_size"},
    WeightSpec{TensorRole::kOutputHead, "lm_head.weight", VocabSize, HiddenSize,
               "vocab_size, hidden_size"}};

// configuration_phi3.py, configuration_llama.py and configuration_mistral.py of
// transformers 5.23.0.
constexpr ConfigDefaults kPhi3Defaults = {.max_position_embeddings = 4096,
                                          .original_max_position_embeddings = 4096,
                                          .rms_norm_eps = 1e-5F};
constexpr ConfigDefaults kLlamaDefaults = {.max_position_embeddings = 2048, .rms_norm_eps = 1e-6F};
constexpr ConfigDefaults kMistralDefaults = {.n_kv_heads = 8,
                                             .max_position_embeddings = 131072,
                                             .rms_norm_eps = 1e-6F,
                                             .sliding_window = 4096};

constexpr std::array kOfPhi3V = {
    LeftOut{"model.vision_embed_tokens.*", "the image encoder"},
};
constexpr std::array kOfPhi4MM = {
    LeftOut{"model.embed_tokens_extend.*", "the image and speech encoders"},
    LeftOut{"*.lora_A.*", "the adapters for images and speech"},
    LeftOut{"*.lora_B.*", "the adapters for images and speech"},
};

// Fine-tuning kits save Phi-3 and Phi-4 as the second and third, their rows apart; the others are
// the text part of models that see and hear.
constexpr std::array kClasses = {
    ModelClass{"Phi3ForCausalLM", "phi3", kPhi3Defaults},
    ModelClass{"LlamaForCausalLM", "llama", kLlamaDefaults, false, false},
    ModelClass{"MistralForCausalLM", "mistral", kMistralDefaults, true, false},
    ModelClass{"Phi3VForCausalLM", "phi3_v", kPhi3Defaults, true, true, kOfPhi3V},
    ModelClass{"Phi4MMForCausalLM", "phi4mm", kPhi3Defaults, true, true, kOfPhi4MM},
};

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

constexpr Architecture kPhi3 = {"Phi3ForCausalLM", kClasses, "model.", kWeights, Phi3Network};

}  // namespace phiq
