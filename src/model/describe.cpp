// What the roles are called, and a checkpoint described by its headers alone.
#include <functional>
#include <numeric>

#include "model/bias.h"
#include "model/find_weights.h"
#include "model/weights.h"
#include "phiq/model.h"

namespace phiq {

std::string_view RoleName(TensorRole role) noexcept {
  switch (role) {
    case TensorRole::kTokenEmbedding:
      return "token_embedding";
    case TensorRole::kOutputHead:
      return "output_head";
    case TensorRole::kOutputNorm:
      return "output_norm";
    case TensorRole::kAttentionNorm:
      return "attention_norm";
    case TensorRole::kAttentionQkv:
      return "attention_qkv";
    case TensorRole::kAttentionOutput:
      return "attention_output";
    case TensorRole::kMlpNorm:
      return "mlp_norm";
    case TensorRole::kMlpGateUp:
      return "mlp_gate_up";
    case TensorRole::kMlpDown:
      return "mlp_down";
    case TensorRole::kAttentionQuery:
      return "attention_query";
    case TensorRole::kAttentionKey:
      return "attention_key";
    case TensorRole::kAttentionValue:
      return "attention_value";
    case TensorRole::kRouter:
      return "router";
    case TensorRole::kExpertGate:
      return "expert_gate";
    case TensorRole::kExpertUp:
      return "expert_up";
    case TensorRole::kExpertDown:
      return "expert_down";
    case TensorRole::kAttentionNormBias:
      return "attention_norm_bias";
    case TensorRole::kAttentionQueryBias:
      return "attention_query_bias";
    case TensorRole::kAttentionKeyBias:
      return "attention_key_bias";
    case TensorRole::kAttentionValueBias:
      return "attention_value_bias";
    case TensorRole::kAttentionOutputBias:
      return "attention_output_bias";
    case TensorRole::kMlpNormBias:
      return "mlp_norm_bias";
    case TensorRole::kOutputNormBias:
      return "output_norm_bias";
    case TensorRole::kOutputHeadBias:
      return "output_head_bias";
  }
  return "";
}

bool IsNorm(TensorRole role) noexcept {
  return role == TensorRole::kOutputNorm || role == TensorRole::kAttentionNorm ||
         role == TensorRole::kMlpNorm;
}

TensorRole BiasOf(TensorRole role) noexcept {
  using enum TensorRole;
  switch (role) {
    case kAttentionNorm:
      return kAttentionNormBias;
    case kAttentionQuery:
      return kAttentionQueryBias;
    case kAttentionKey:
      return kAttentionKeyBias;
    case kAttentionValue:
      return kAttentionValueBias;
    case kAttentionOutput:
      return kAttentionOutputBias;
    case kMlpNorm:
      return kMlpNormBias;
    case kOutputNorm:
      return kOutputNormBias;
    case kOutputHead:
      return kOutputHeadBias;
    default:
      return role;
  }
}

bool IsBias(TensorRole role) noexcept {
  switch (role) {
    case TensorRole::kAttentionNormBias:
    case TensorRole::kAttentionQueryBias:
    case TensorRole::kAttentionKeyBias:
    case TensorRole::kAttentionValueBias:
    case TensorRole::kAttentionOutputBias:
    case TensorRole::kMlpNormBias:
    case TensorRole::kOutputNormBias:
    case TensorRole::kOutputHeadBias:
      return true;
    default:
      return false;
  }
}

std::uint64_t ModelTensor::n_elements() const noexcept {
  return std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
}

Model DescribeModel(const CheckpointFolder& folder, ModelConfig config,
                    const Checkpoint& checkpoint, const DescribeOptions& options,
                    const WarningFn& warn) {
  Model model;
  for (const TensorRows& rows :
       FindWeights(folder, config, checkpoint, options.ignore_extra, warn)) {
    if (rows.first_row > 0) continue;  // the rest of a weight whose rows stand apart
    const WeightInfo weight = InfoOf(config, rows.weight);
    ModelTensor tensor{rows.weight.role, rows.weight.layer, weight.name, DimsOf(weight),
                       DType::kF32};
    const DType stored = checkpoint.tensors()[rows.tensor].dtype;
    if (stored == DType::kF16 || stored == DType::kBF16) tensor.dtype = stored;
    model.tensors.push_back(std::move(tensor));
  }
  model.name = folder.model_name();
  model.repository_id = folder.repository_id();
  if (options.tokenizer) {
    model.tokenizer = ReadTokenizer(folder, config.vocab_size, config.bos_token_id,
                                    config.eos_token_id, config.pad_token_id, warn);
  }
  model.config = std::move(config);
  return model;
}

}  // namespace phiq
