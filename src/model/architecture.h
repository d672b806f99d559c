// A model as tables: its weights, what a checkpoint calls them, and what its layers compute. Each
// architecture is one file that fills an Architecture; whoever reads a checkpoint, writes a graph
// or runs the model loops over the tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "phiq/model.h"

namespace phiq {

// A number of rows or columns that the configuration gives.
using SizeFn = std::uint64_t (*)(const ModelConfig&);

// Rows of a weight; a checkpoint may hold them as a tensor of their own instead of the whole.
struct PartSpec {
  TensorPart part = TensorPart::kWhole;
  std::string_view name;  // "model.layers.{}.self_attn.q_proj.weight"
  SizeFn n_rows = nullptr;
};

// A tensor, of some checkpoints, that holds a weight among others: in each of its matrices (one, or
// one for each expert) from first_row on.
struct StackSpec {
  std::string_view name;       // "": there is none
  SizeFn first_row = nullptr;  // nullptr: 0
  SizeFn matrix_rows = nullptr;
};

struct WeightSpec {
  TensorRole role = TensorRole::kTokenEmbedding;
  std::string_view name;    // "model.layers.{}.mlp.down_proj.weight"; {}: the layer
  SizeFn n_rows = nullptr;  // of a vector: 1; of one matrix, where there are several
  SizeFn row_elements = nullptr;
  std::string_view keys;                 // of config.json, which give the shape
  std::span<const PartSpec> parts = {};  // all rows, in their order; empty: no such parts
  // Matrices of the same shape, one behind the other; nullptr: one. A checkpoint may hold each by
  // itself: "model.layers.{}.experts.{}.w1.weight".
  SizeFn n_matrices = nullptr;
  std::string_view matrix_name = {};
  StackSpec stack = {};
  bool (*is_there)(const ModelConfig&) = nullptr;  // nullptr: in every model
};

// x / sqrt(mean(x^2) + epsilon) * weight, and a bias where there is one.
struct RmsNormSpec {
  float epsilon = 0;
  bool has_bias = false;
};
// (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * weight + bias.
struct LayerNormSpec {
  float epsilon = 0;
};
using NormSpec = std::variant<RmsNormSpec, LayerNormSpec>;

// softmax(q k^T / sqrt(head_dim)) v over the tokens so far, queries and keys rotated by position in
// the first rope_dim elements of a head. Neighbouring query heads share a key and a value.
struct AttentionSpec {
  std::uint32_t n_heads = 0, n_kv_heads = 0, head_dim = 0, rope_dim = 0;
  std::uint32_t sliding_window = 0;  // tokens that each one sees; 0: all
  bool is_split = false;  // queries, keys and values are three weights instead of kAttentionQkv
  bool has_bias = false;  // something is added to all of them, and to the output

  std::size_t query_columns() const noexcept { return std::size_t{n_heads} * head_dim; }
  std::size_t key_columns() const noexcept { return std::size_t{n_kv_heads} * head_dim; }
};

// down(silu(gate(x)) * up(x)).
struct GatedMlp {
  std::uint32_t intermediate_size = 0;
};
// n_experts such MLPs, of which two are used for each token:
//
//   s = router(x);  r1 * expert[e1](x) + r2 * expert[e2](x)
//   e1 is the largest of s; r1 its weight in a softmax over the scores that nearly tie with it,
//   those with (s[e1] - s[i]) / max(|s[i]|, s[e1]) not greater than 2 * epsilon
//   e2 and r2 likewise, with e1 left out (s[i] as it was)
//
// So both weights are 1 but for near ties. With `is_softmax` they are those of a softmax over the
// two largest scores, and sum to 1.
// Source   sparsemixer of transformers' modeling_phimoe.py, without its noise.
struct Experts {
  std::uint32_t n_experts = 0;
  float epsilon = 0;  // of near ties
  GatedMlp expert;
  bool is_softmax = false;
};
using MlpSpec = std::variant<GatedMlp, Experts>;

// x += attention(norm(x)); x += mlp(norm(x)).
struct DecoderLayer {
  NormSpec attention_norm;
  AttentionSpec attention;
  NormSpec mlp_norm;
  MlpSpec mlp;
};

// What is computed between the embedding and the head.
struct Network {
  std::vector<DecoderLayer> layers;
  NormSpec output_norm;
  bool has_head_bias = false;
};

// What a class of transformers takes for keys that config.json leaves out. Sizes of weights are not
// among them: a configuration without is no model's.
struct ConfigDefaults {
  std::uint32_t n_kv_heads = 0;                        // 0: n_heads
  std::uint32_t max_position_embeddings = 0;           // 0: must be there
  std::uint32_t original_max_position_embeddings = 0;  // with longrope; 0: all positions
  float rms_norm_eps = 0;                              // 0: must be there
  std::uint32_t sliding_window = 0;                    // 0: none
  float rope_theta = 10000;
  std::uint32_t n_experts = 0;  // 0: the class has none
  float router_epsilon = 0;
};

// Tensors that such checkpoints hold beside the model, and that a text model does without.
struct LeftOut {
  std::string_view pattern;  // as of --ignore-extra
  std::string_view what;     // "the image encoder"
};

// A class of transformers whose checkpoints hold a model of this architecture.
struct ModelClass {
  std::string_view name;        // in `architectures` of config.json: "Phi3ForCausalLM"
  std::string_view model_type;  // "phi3"
  ConfigDefaults defaults;
  bool has_window = true;      // false: the class does not look at `sliding_window`
  bool rotates_as_own = true;  // false: part of a head, or yarn, mean something else than in ours
  std::span<const LeftOut> left_out = {};
  bool has_head_dim = false;  // `head_dim` may be another than hidden_size / num_attention_heads
  bool has_bias = false;      // `attention_bias` may be true, and there is `lm_head_bias`
  // `short_mscale` and `long_mscale` take the place of the formula; other classes pass them over.
  bool has_mscale = false;
};

struct Architecture {
  std::string_view class_name;  // the first of `classes`
  // Their checkpoints are read; the first one's names and configuration are written.
  std::span<const ModelClass> classes;
  // What stands before the names of all weights but the head's: the model inside. "": nothing.
  std::string_view stem;
  // In the model's order. Those of the layers stand together and are repeated for each.
  std::span<const WeightSpec> weights;
  Network (*network)(const ModelConfig&);
};

extern const Architecture kPhi3;
extern const Architecture kPhiMoe;

// Every architecture that phiq knows.
std::span<const Architecture* const> Architectures() noexcept;
const Architecture* FindArchitecture(std::string_view class_name) noexcept;  // nullptr: unknown

// That of a configuration. Throws kInternal: it names none that is known.
const Architecture& ArchitectureOf(const ModelConfig& config);
// What the model computes, layer by layer.
Network NetworkOf(const ModelConfig& config);

}  // namespace phiq
