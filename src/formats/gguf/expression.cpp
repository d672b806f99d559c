// llama.cpp runs PhiMoE on the graph of Phi-3: an RMS norm (with a bias) for a LayerNorm, and a
// softmax of the two best experts, whose weights sum to 1, for sparsemixer, whose weights are 1 and
// 1 but for near ties. What remains of the difference are the near ties.
#include "formats/gguf/expression.h"

#include "phiq/error.h"
#include "stored/fill_width.h"

namespace phiq::gguf {
namespace {

// A softmax over scores times 2^-12 is 1/2 and 1/2 up to a sixteen-thousandth of their difference.
// Smaller powers leave float32 too few bits to tell the scores apart (docs/formats/gguf.md).
constexpr int kRouterExponent = -12;

}  // namespace

Expression OwnExpression(const ModelConfig& config, bool is_reexpressed) {
  Expression expression;
  if (config.n_experts == 0) return expression;
  if (is_reexpressed) {
    if (config.tie_word_embeddings) {
      throw Error(ErrorCode::kUnsupported,
                  "tie_word_embeddings true: llama.cpp's phimoe has a head of its own")
          .In("config.json");
    }
    expression.has_zero_mean = true;
    expression.router_exponent = kRouterExponent;
    expression.down_exponent = 1;
  }
  expression.has_all_biases = true;
  FillWidth(config, "llama.cpp's phimoe", expression);
  return expression;
}

Expression ExpressionOf(const ModelConfig& config, const PlanOptions& options) {
  const bool is_peer = options.method == "reference" && options.is_method_chosen;
  return OwnExpression(config, !is_peer);
}

}  // namespace phiq::gguf
