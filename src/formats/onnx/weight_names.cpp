#include "formats/onnx/weight_names.h"

#include <fmt/format.h>

#include <utility>

namespace phiq::onnx {

std::vector<NamedRows> PossibleWeights(const ModelConfig& config) {
  const std::uint64_t query = std::uint64_t{config.n_heads} * config.head_dim;
  const std::uint64_t key = std::uint64_t{config.n_kv_heads} * config.head_dim;
  const std::uint64_t inner = config.intermediate_size;
  std::vector<NamedRows> weights;
  for (const WeightId& id : WeightsOf(config)) {
    const auto add = [&](std::string name, TensorPart part, std::uint64_t first_row,
                         std::uint64_t n_rows) {
      weights.push_back({std::move(name), id, part, first_row, n_rows});
    };
    const auto whole = [&](std::string name) {
      add(std::move(name), TensorPart::kWhole, 0, ShapeOf(config, id.role).n_rows);
    };
    const std::string layer = fmt::format("model.layers.{}.", id.layer);
    switch (id.role) {
      case TensorRole::kTokenEmbedding:
        whole("model.embed_tokens.weight");
        break;
      case TensorRole::kOutputHead:
        whole("lm_head.MatMul.weight");
        break;
      case TensorRole::kOutputNorm:
        whole(fmt::format("model.layers.{}.final_norm_layernorm.weight", config.n_layers));
        break;
      case TensorRole::kAttentionNorm:
        whole(layer + "input_layernorm.weight");
        break;
      case TensorRole::kAttentionQkv:
        whole(layer + "attn.qkv_proj.MatMul.weight");
        add(layer + "attn.q_proj.MatMul.weight", TensorPart::kQuery, 0, query);
        add(layer + "attn.k_proj.MatMul.weight", TensorPart::kKey, query, key);
        add(layer + "attn.v_proj.MatMul.weight", TensorPart::kValue, query + key, key);
        break;
      case TensorRole::kAttentionOutput:
        whole(layer + "attn.o_proj.MatMul.weight");
        break;
      case TensorRole::kMlpNorm:
        whole(layer + "post_attention_layernorm.weight");
        break;
      case TensorRole::kMlpGateUp:
        add(layer + "mlp.gate_proj.MatMul.weight", TensorPart::kGate, 0, inner);
        add(layer + "mlp.up_proj.MatMul.weight", TensorPart::kUp, inner, inner);
        break;
      case TensorRole::kMlpDown:
        whole(layer + "mlp.down_proj.MatMul.weight");
        break;
    }
  }
  return weights;
}

std::string_view TableKind(std::string_view name) noexcept {
  constexpr std::string_view kPrefix = "model.rope.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return name;
}

std::optional<ConfigTable> FindTable(const ModelConfig& config, std::string_view name,
                                     std::uint64_t n_rows) {
  using enum ConfigTable;
  name = TableKind(name);
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
