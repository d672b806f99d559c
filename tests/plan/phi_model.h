// Models of Phi's kind from a few numbers, as DescribeModel would describe them; no disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/format.h"
#include "phiq/plan.h"

namespace phiq::testing {

struct PhiShape {
  std::uint32_t hidden, intermediate, layers, heads, kv_heads, vocab, rope_factors;
  bool tied;
};
// The published config.json files.
inline constexpr PhiShape kPhi35Mini = {3072, 8192, 32, 32, 32, 32064, 48, false};
inline constexpr PhiShape kPhi4 = {5120, 17920, 40, 40, 10, 100352, 0, false};
inline constexpr PhiShape kPhi4Mini = {3072, 8192, 32, 24, 8, 200064, 48, true};

struct PhiModel {
  explicit PhiModel(const PhiShape& s) {
    model.config.architecture = "Phi3ForCausalLM";
    model.config.vocab_size = s.vocab;
    model.config.hidden_size = s.hidden;
    model.config.intermediate_size = s.intermediate;
    model.config.n_layers = s.layers;
    model.config.n_heads = s.heads;
    model.config.n_kv_heads = s.kv_heads;
    model.config.head_dim = s.hidden / s.heads;
    model.config.tie_word_embeddings = s.tied;
    model.config.rope_dim = s.rope_factors == 0 ? model.config.head_dim : 2 * s.rope_factors;
    model.config.partial_rotary_factor =
        static_cast<double>(model.config.rope_dim) / model.config.head_dim;
    model.config.long_factor.assign(s.rope_factors, 1.0F);
    model.config.short_factor.assign(s.rope_factors, 1.0F);
    const std::uint64_t qkv_rows = s.hidden + 2 * s.kv_heads * model.config.head_dim;
    Add("model.embed_tokens.weight", TensorRole::kTokenEmbedding, -1, {s.vocab, s.hidden});
    for (std::uint32_t i = 0; i < s.layers; ++i) {
      const std::string prefix = "model.layers." + std::to_string(i) + ".";
      const auto layer = static_cast<std::int32_t>(i);
      Add(prefix + "input_layernorm.weight", TensorRole::kAttentionNorm, layer, {s.hidden});
      Add(prefix + "self_attn.qkv_proj.weight", TensorRole::kAttentionQkv, layer,
          {qkv_rows, s.hidden});
      Add(prefix + "self_attn.o_proj.weight", TensorRole::kAttentionOutput, layer,
          {s.hidden, s.hidden});
      Add(prefix + "post_attention_layernorm.weight", TensorRole::kMlpNorm, layer, {s.hidden});
      Add(prefix + "mlp.gate_up_proj.weight", TensorRole::kMlpGateUp, layer,
          {2 * s.intermediate, s.hidden});
      Add(prefix + "mlp.down_proj.weight", TensorRole::kMlpDown, layer, {s.hidden, s.intermediate});
    }
    Add("model.norm.weight", TensorRole::kOutputNorm, -1, {s.hidden});
    if (!s.tied) Add("lm_head.weight", TensorRole::kOutputHead, -1, {s.vocab, s.hidden});
  }

  // `P`: the format's own kind of plan.
  template <typename P = Plan>
  P MakePlan(const PlanOptions& options, const Answers& answers = {}) {
    const std::unique_ptr<Plan> plan = PlanTarget(
        model, options, [this](const Warning& warning) { warnings.push_back(warning.text); },
        answers);
    return dynamic_cast<const P&>(*plan);
  }
  Plan MakePlan(std::string type, std::vector<TensorRule> rules = {}) {
    PlanOptions options;
    options.type = std::move(type);
    options.tensor_rules = std::move(rules);
    return MakePlan(options);
  }

  Model model;
  std::vector<std::string> warnings;  // of the plans made

 private:
  void Add(std::string name, TensorRole role, std::int32_t layer,
           std::vector<std::uint64_t> shape) {
    model.tensors.push_back({role, layer, std::move(name), std::move(shape), DType::kBF16});
  }
};

inline void SetSymmetric(PlanOptions& options, bool is_symmetric) {
  options.knobs.erase("sym");
  options.knobs.erase("asym");
  options.knobs[is_symmetric ? "sym" : "asym"] = "";
}
// 0: the whole row.
inline void SetGroupSize(PlanOptions& options, std::uint32_t n) {
  options.knobs["group-size"] = n == 0 ? "row" : std::to_string(n);
}

inline const PlanLine& LineOf(const Plan& plan, std::string_view name) {
  for (const PlanLine& line : plan.lines) {
    if (line.name == name) return line;
  }
  throw std::out_of_range(std::string(name));
}

inline GgmlType TypeOf(const PlanLine& line) { return std::get<GgmlType>(line.encoding); }
inline GgmlType TypeOf(const Plan& plan, std::string_view name) {
  return TypeOf(LineOf(plan, name));
}

// The code and text of what `call` throws; kNo and "" when it throws nothing.
template <typename Call>
std::pair<ErrorCode, std::string> Thrown(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kNo, ""};
}

}  // namespace phiq::testing
