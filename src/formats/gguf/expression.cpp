// llama.cpp runs PhiMoE on the graph of Phi-3: an RMS norm (with a bias) for a LayerNorm, and a
// softmax of the two best experts, whose weights sum to 1, for sparsemixer, whose weights are 1 and
// 1 but for near ties. What remains of the difference are the near ties.
#include "formats/gguf/expression.h"

#include <fmt/format.h>

#include "phiq/error.h"

namespace phiq::gguf {
namespace {

// A softmax over scores times 2^-12 is 1/2 and 1/2 up to a sixteen-thousandth of their difference.
// Smaller powers leave float32 too few bits to tell the scores apart (docs/formats/gguf.md).
constexpr int kRouterExponent = -12;

}  // namespace

Expression OwnExpression(const ModelConfig& config, bool is_reexpressed) {
  Expression expression;
  if (config.n_experts == 0) return expression;
  const auto refuse = [](std::string message) {
    throw Error(ErrorCode::kUnsupported, std::move(message)).In("config.json");
  };
  if (is_reexpressed) {
    if (config.tie_word_embeddings)
      refuse("tie_word_embeddings true: llama.cpp's phimoe has a head of its own");
    expression.has_zero_mean = true;
    expression.router_exponent = kRouterExponent;
    expression.down_exponent = 1;
  }
  expression.has_all_biases = !config.attention_bias || !config.lm_head_bias;
  // llama.cpp's phimoe takes heads times head size from the width.
  if (config.n_heads * config.head_dim != config.hidden_size) {
    const std::uint32_t per_key = config.n_heads / config.n_kv_heads;
    const std::uint32_t n_heads = config.hidden_size / config.head_dim;
    if (n_heads < config.n_heads || n_heads * config.head_dim != config.hidden_size ||
        n_heads % per_key != 0) {
      refuse(
          fmt::format("{} heads of {} are not a part of hidden_size {} that llama.cpp's phimoe "
                      "could be given with heads of zeros",
                      config.n_heads, config.head_dim, config.hidden_size));
    }
    expression.n_heads = n_heads;
    expression.n_kv_heads = n_heads / per_key;
  }
  return expression;
}

Expression ExpressionOf(const ModelConfig& config, const PlanOptions& options) {
  const bool is_peer = options.method == "reference" && options.is_method_chosen;
  return OwnExpression(config, !is_peer);
}

}  // namespace phiq::gguf
