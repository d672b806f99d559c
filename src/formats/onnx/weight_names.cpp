#include "formats/onnx/weight_names.h"

#include <fmt/format.h>

#include "plan/lines.h"

namespace phiq::onnx {

std::vector<NamedRows> PossibleWeights(const phiq::Model& model) {
  const ModelConfig& config = model.config;
  const std::uint64_t query = std::uint64_t{config.n_heads} * config.head_dim;
  const std::uint64_t key = std::uint64_t{config.n_kv_heads} * config.head_dim;
  const std::uint64_t hidden = config.hidden_size;
  const std::uint64_t inner = config.intermediate_size;
  const bool tied = IsTied(model);
  std::vector<NamedRows> weights;
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const ModelTensor& tensor = model.tensors[i];
    const auto add = [&](std::string name, TensorPart part, std::uint64_t first_row,
                         std::uint64_t n_rows) {
      weights.push_back({std::move(name), i, tensor.role, part, first_row, n_rows});
    };
    const auto whole = [&](std::string name, std::uint64_t n_rows) {
      add(std::move(name), TensorPart::kWhole, 0, n_rows);
    };
    const std::string layer = fmt::format("model.layers.{}.", tensor.layer);
    switch (tensor.role) {
      case TensorRole::kTokenEmbedding:
        whole("model.embed_tokens.weight", config.vocab_size);
        if (!tied) break;
        whole("lm_head.MatMul.weight", config.vocab_size);
        weights.back().role = TensorRole::kOutputHead;
        break;
      case TensorRole::kOutputHead:
        whole("lm_head.MatMul.weight", config.vocab_size);
        break;
      case TensorRole::kOutputNorm:
        whole(fmt::format("model.layers.{}.final_norm_layernorm.weight", config.n_layers), 1);
        break;
      case TensorRole::kAttentionNorm:
        whole(layer + "input_layernorm.weight", 1);
        break;
      case TensorRole::kAttentionQkv:
        whole(layer + "attn.qkv_proj.MatMul.weight", query + 2 * key);
        add(layer + "attn.q_proj.MatMul.weight", TensorPart::kQuery, 0, query);
        add(layer + "attn.k_proj.MatMul.weight", TensorPart::kKey, query, key);
        add(layer + "attn.v_proj.MatMul.weight", TensorPart::kValue, query + key, key);
        break;
      case TensorRole::kAttentionOutput:
        whole(layer + "attn.o_proj.MatMul.weight", hidden);
        break;
      case TensorRole::kMlpNorm:
        whole(layer + "post_attention_layernorm.weight", 1);
        break;
      case TensorRole::kMlpGateUp:
        add(layer + "mlp.gate_proj.MatMul.weight", TensorPart::kGate, 0, inner);
        add(layer + "mlp.up_proj.MatMul.weight", TensorPart::kUp, inner, inner);
        break;
      case TensorRole::kMlpDown:
        whole(layer + "mlp.down_proj.MatMul.weight", hidden);
        break;
    }
  }
  return weights;
}

std::optional<ConfigTable> FindTable(const ModelConfig& config, std::string_view name,
                                     std::uint64_t n_rows) {
  using enum ConfigTable;
  constexpr std::string_view kPrefix = "model.rope.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  const bool is_both = n_rows > config.max_position_embeddings;
  if (name == "cos_cache") return is_both ? kCosShortLong : kCos;
  if (name == "sin_cache") return is_both ? kSinShortLong : kSin;
  if (name == "cos_cache_large") return kCosLong;
  if (name == "sin_cache_large") return kSinLong;
  if (name == "cos_cache_small") return kCosShort;
  if (name == "sin_cache_small") return kSinShort;
  return std::nullopt;
}

}  // namespace phiq::onnx
