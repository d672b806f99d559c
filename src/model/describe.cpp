// What the roles are called, and a checkpoint described by its headers alone.
#include <functional>
#include <numeric>

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
  }
  return "";
}

bool IsNorm(TensorRole role) noexcept {
  return role == TensorRole::kOutputNorm || role == TensorRole::kAttentionNorm ||
         role == TensorRole::kMlpNorm;
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
    ModelTensor tensor{rows.weight.role, rows.weight.layer, weight.name, {}, DType::kF32};
    if (!IsNorm(tensor.role)) tensor.shape.push_back(weight.shape.n_rows);
    tensor.shape.push_back(weight.shape.row_elements);
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
