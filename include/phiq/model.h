// What a checkpoint is: its configuration, and the role of each of its tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "phiq/tokenizer.h"

namespace phiq {

enum class RopeScalingType { kNone, kLongRope, kYarn };  // "su" is kLongRope

// config.json, from the classic shape or the newer one (`rope_parameters`,
// `dtype`). Counts are positive and agree with each other.
struct ModelConfig {
  std::string architecture;  // whose function it is: "Phi3ForCausalLM"
  std::string class_name;    // what config.json says: may be another class of the same function
  std::uint32_t vocab_size = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t intermediate_size = 0;
  std::uint32_t n_layers = 0;
  std::uint32_t n_heads = 0;
  std::uint32_t n_kv_heads = 0;
  std::uint32_t head_dim = 0;  // of most models hidden_size / n_heads
  std::uint32_t rope_dim = 0;  // rotated dimensions of a head (partial_rotary_factor)
  // Of a model whose layers have several MLPs, of which each token takes some; else 0.
  std::uint32_t n_experts = 0;
  std::uint32_t n_experts_per_token = 0;
  // Scores of the router that differ by less than twice this share of the larger one are near ties.
  float router_epsilon = 0;
  bool attention_bias = false, lm_head_bias = false;
  float rms_norm_eps = 0;  // of a LayerNorm too, whose key is called so all the same
  float rope_theta = 10000.0F;
  double partial_rotary_factor = 1.0;
  std::uint32_t max_position_embeddings = 0;
  // When not given the class's default with longrope, else max_position_embeddings.
  std::uint32_t original_max_position_embeddings = 0;
  std::uint32_t sliding_window = 0;  // 0: none
  bool tie_word_embeddings = false;
  RopeScalingType rope_scaling = RopeScalingType::kNone;
  std::vector<float> long_factor, short_factor;  // [rope_dim / 2], empty without rope scaling
  // By what cosines and sines are multiplied, where it is not what the formula gives.
  std::optional<float> attention_factor;
  // The same of texts beyond the original length, where it is another one there.
  std::optional<float> long_attention_factor;
  // Special ids of config.json (an array of ids is ignored here, as the converters do).
  std::optional<std::uint32_t> bos_token_id, eos_token_id, pad_token_id;
  // F32, F16 or BF16, where `torch_dtype` names one of them (the newer `dtype` is not looked at, as
  // mlx-lm does not).
  std::optional<DType> torch_dtype;
};

// What a file says of how phiq made it, where its format can: {"phiq.nan_policy", "zero"}.
using Facts = std::vector<std::pair<std::string, std::string>>;

// True when the model attends to fewer tokens than its context holds.
inline bool HasSlidingWindow(const ModelConfig& config) noexcept {
  return config.sliding_window > 0 && config.sliding_window < config.max_position_embeddings;
}

// Whether a configuration may say that the weights are quantized.
enum class QuantizedWeights : std::uint8_t { kRefuse, kAllow };

// Reads and checks config.json. Opens no shard. Keys that are left out have the defaults of the
// class in transformers.
//
// Throws   kInput: no config.json. kBadData: key, value found and allowed.
//          kUnsupported: another architecture, an unknown rope type, weights already quantized.
// Warns    of keys left out that nearly always stand there.
//
// `n_tokens`: token ids below it are right too where it is more than vocab_size.
ModelConfig ReadModelConfig(const SideFiles& files, const WarningFn& warn,
                            QuantizedWeights quantized = QuantizedWeights::kRefuse,
                            std::uint32_t n_tokens = 0);

// Values that come from config.json instead of the weights.
enum class ConfigTable : std::uint8_t {
  kLongFactor,
  kShortFactor,  // longrope factors: [rope_dim / 2]
  // Cosines and sines of every position: [positions, rope_dim / 2] (docs/formats/onnx.md "Rotary
  // tables").
  kCos,
  kSin,  // all positions, short factors where there are any
  kCosLong,
  kSinLong,  // all positions, long factors
  kCosShort,
  kSinShort,  // positions below the original length, short factors
  kCosShortLong,
  kSinShortLong,  // the rows of the short table, then those of the long one
};
std::string_view ConfigTableName(ConfigTable table) noexcept;  // "long_factor", "cos_long"

// What a weight is for. The order says nothing.
enum class TensorRole : std::uint8_t {
  kTokenEmbedding,
  kOutputHead,
  kOutputNorm,
  kAttentionNorm,
  kAttentionQkv,  // rows: all Q heads, then K, then V
  kAttentionOutput,
  kMlpNorm,
  kMlpGateUp,  // rows: gate, then up
  kMlpDown,
  // Of models that have queries, keys and values apart:
  kAttentionQuery,
  kAttentionKey,
  kAttentionValue,
  // Of models with experts: the scores of the experts, and the matrices of all experts, one behind
  // the other.
  kRouter,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  // What is added to a product or a norm:
  kAttentionNormBias,
  kAttentionQueryBias,
  kAttentionKeyBias,
  kAttentionValueBias,
  kAttentionOutputBias,
  kMlpNormBias,
  kOutputNormBias,
  kOutputHeadBias,
};
std::string_view RoleName(TensorRole role) noexcept;  // "attention_qkv"
bool IsNorm(TensorRole role) noexcept;
bool IsBias(TensorRole role) noexcept;
// 1-D: a norm or a bias. Never quantized.
inline bool IsVector(TensorRole role) noexcept { return IsNorm(role) || IsBias(role); }
// A matrix of each of a layer's experts.
inline bool IsOfExperts(TensorRole role) noexcept {
  return role == TensorRole::kExpertGate || role == TensorRole::kExpertUp ||
         role == TensorRole::kExpertDown;
}
// Never quantized: a vector, or a router, whose few weights decide which others are used.
inline bool StaysFloat(TensorRole role) noexcept {
  return IsVector(role) || role == TensorRole::kRouter;
}

// One of a model's weights.
struct WeightId {
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;   // -1: outside the layers
  std::int32_t expert = -1;  // of the input of one of several experts; -1: of all, or of none

  auto operator<=>(const WeightId&) const = default;
};

// Rows of a weight that mean something by themselves, and that some files hold apart.
enum class TensorPart : std::uint8_t { kWhole, kQuery, kKey, kValue, kGate, kUp };

struct ModelTensor {
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;           // -1: outside the layers
  std::string name;                  // the checkpoint's: "model.layers.3.mlp.down_proj.weight"
  std::vector<std::uint64_t> shape;  // rows first; vectors: [n]; of experts: [n_experts, rows, n]
  DType dtype = DType::kF32;         // F32, F16 or BF16

  std::uint64_t n_elements() const noexcept;
};

struct Model {
  std::string name;           // CheckpointFolder::model_name()
  std::string repository_id;  // CheckpointFolder::repository_id()
  ModelConfig config;
  Tokenizer tokenizer;
  // Embedding, then each layer's, then the output norm, then the head (absent when tied).
  // Every shape has been checked against the configuration.
  std::vector<ModelTensor> tensors;
};

struct DescribeOptions {
  std::vector<std::string> ignore_extra;  // globs of tensors that need no role (--ignore-extra)
  bool tokenizer = true;                  // false: Model::tokenizer stays empty
};

// Gives every tensor its role.
//
// Throws   kBadData: a tensor without a role, a missing one, a wrong shape (found, expected and
//          which keys of config.json expect it). kUnsupported: a weight whose dtype is not F32, F16
//          or BF16.
Model DescribeModel(const CheckpointFolder& folder, ModelConfig config,
                    const Checkpoint& checkpoint, const DescribeOptions& options,
                    const WarningFn& warn);

}  // namespace phiq
