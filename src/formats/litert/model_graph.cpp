// A function for each part of the model. Keys are cached row by row, values column by column, so
// that both products with them run over rows; query heads that share a key become rows of one
// product.
#include "formats/litert/model_graph.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <map>
#include <utility>
#include <variant>

#include "model/architecture.h"
#include "model/rope.h"
#include "model/weights.h"
#include "phiq/error.h"

namespace phiq::litert {
namespace {

std::int32_t Int(std::uint64_t value) { return static_cast<std::int32_t>(value); }

// A call adds one tensor or node at most in its arguments: which of two comes first is the
// compiler's choice.
class SignatureGraph {
 public:
  using Id = GraphBuilder::Id;

  SignatureGraph(const ModelConfig& config, const Network& network, std::span<const PlanLine> lines,
                 const GraphChoices& choices, std::uint32_t n_tokens, bool is_decode,
                 BufferPool& pool)
      : config_(config),
        network_(network),
        choices_(choices),
        n_tokens_(Int(n_tokens)),
        is_decode_(is_decode),
        graph_(is_decode ? std::string(kDecode) : fmt::format("{}{}", kPrefill, n_tokens), pool) {
    AddWeights(lines);
  }

  Subgraph Build() {
    AddInputs();
    residual_ = AddEmbedding();
    AddRotaryTables();
    AddCachePlaces();
    for (std::uint32_t i = 0; i < config_.n_layers; ++i) AddLayer(i);
    for (std::size_t i = 0; i < caches_.size(); ++i)
      graph_.Output(CacheName(i / 2, i % 2 == 0), caches_[i]);
    if (is_decode_) graph_.Output("logits", AddHead());
    return graph_.Take();
  }

 private:
  // --- weights --------------------------------------------------------------------------------

  // A prefill ends with the caches of the last layer.
  bool IsUsed(const PlanLine& line) const {
    if (is_decode_) return true;
    if (line.role == TensorRole::kOutputNorm || line.role == TensorRole::kOutputHead) return false;
    const bool is_last = line.layer == static_cast<std::int32_t>(config_.n_layers) - 1;
    return !is_last || line.role == TensorRole::kAttentionNorm ||
           line.role == TensorRole::kAttentionQkv;
  }

  void AddWeights(std::span<const PlanLine> lines) {
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (IsUsed(lines[i])) weights_[{lines[i].role, lines[i].layer}] = AddWeight(lines[i], i);
    }
  }

  Id AddWeight(const PlanLine& line, std::size_t index) {
    const std::uint64_t n_rows = line.n_rows(), n_columns = line.row_elements();
    const auto array = [&](std::size_t a) {
      return StoredArray{index, a, n_rows * ArrayRowBytes(line.encoding, a, n_columns)};
    };
    Shape shape = {Int(n_rows), Int(n_columns)};
    if (StaysFloat(line.role)) shape = {Int(n_columns)};
    const auto* groups = std::get_if<GroupEncoding>(&line.encoding);
    if (groups == nullptr)
      return graph_.Stored(line.name, TensorType::FLOAT32, std::move(shape), array(0));
    const TensorType type = BitsOf(groups->code) == 8 ? TensorType::INT8 : TensorType::INT4;
    const Id codes = graph_.Stored(line.name, type, std::move(shape), array(0));
    Quantization how{index, n_rows};
    if (groups->group_size != 0) {
      how.block_size = Int(groups->group_size);
      how.scales = graph_.Stored(line.name + std::string(kScalesSuffix), TensorType::FLOAT16,
                                 {Int(n_rows), Int(GroupCount(*groups, n_columns))}, array(1));
    }
    graph_.SetQuantization(codes, how);
    return codes;
  }

  Id Weight(TensorRole role, std::int32_t layer = -1) const {
    if (const auto found = weights_.find({role, layer}); found != weights_.end())
      return found->second;
    throw Error(ErrorCode::kInternal,
                fmt::format("no weight for {} of layer {}", RoleName(role), layer));
  }

  // --- inputs ---------------------------------------------------------------------------------

  static std::string CacheName(std::size_t layer, bool is_keys) {
    return fmt::format("kv_cache_{}_{}", is_keys ? 'k' : 'v', layer);
  }

  void AddInputs() {
    const std::int32_t length = Int(choices_.cache_length);
    const std::int32_t heads = Int(config_.n_kv_heads), size = Int(config_.head_dim);
    tokens_ = graph_.Input("tokens", TensorType::INT32, {1, n_tokens_});
    positions_ = graph_.Input("input_pos", TensorType::INT32, {n_tokens_});
    mask_ = graph_.Input("mask", TensorType::FLOAT32, {1, 1, n_tokens_, length});
    for (std::size_t i = 0; i < config_.n_layers; ++i) {
      caches_.push_back(
          graph_.Input(CacheName(i, true), TensorType::FLOAT32, {1, heads, length, size}));
      caches_.push_back(
          graph_.Input(CacheName(i, false), TensorType::FLOAT32, {1, heads, size, length}));
    }
  }

  // Where the new keys and values go: the first position of all that are given.
  void AddCachePlaces() {
    const Id first = graph_.Slice("first_position", positions_, 0, 0, 1);
    const Id zero = graph_.Ints("zero", {0});
    key_place_ = graph_.Concatenate("key_place", {zero, zero, first, zero}, 0);
    value_place_ = graph_.Concatenate("value_place", {zero, zero, zero, first}, 0);
  }

  // --- rotary tables --------------------------------------------------------------------------

  // Cosines and sines of the positions, [1, 1, tokens, rope_dim].
  void AddRotaryTables() {
    const ConfigTables tables(config_);
    const std::span<const float> frequencies =
        choices_.long_factors ? tables.long_frequencies() : tables.short_frequencies();
    const Id rows = graph_.Reshape("position_rows", positions_, {1, 1, n_tokens_, 1});
    const Id of_pairs =
        graph_.Floats("frequencies", frequencies, {1, 1, 1, Int(frequencies.size())});
    const Id half = graph_.Mul("angles", graph_.ToFloat("positions", rows), of_pairs);
    const Id angles = graph_.Concatenate("angles_of_both_halves", {half, half}, 3);
    cosines_ = graph_.Unary(Op::kCos, "cosines", angles);
    sines_ = graph_.Unary(Op::kSin, "sines", angles);
    const float factor = RopeAttentionFactor(config_);
    if (factor == 1) return;
    const Id scale = graph_.Float("attention_factor", factor);
    cosines_ = graph_.Mul("scaled_cosines", cosines_, scale);
    sines_ = graph_.Mul("scaled_sines", sines_, scale);
  }

  // x [1, heads, tokens, head_dim] turned: the first rope_dim elements of each head, whose halves
  // are the two coordinates.
  Id Rotate(const std::string& path, Id x) {
    const std::int32_t size = Int(config_.head_dim), n = Int(config_.rope_dim);
    const bool is_partial = n < size;
    const Id rotated = is_partial ? graph_.Slice(path + "/rotated_part", x, 3, 0, n) : x;
    const Id first = graph_.Slice(path + "/first_half", rotated, 3, 0, n / 2);
    const Id second = graph_.Slice(path + "/second_half", rotated, 3, n / 2, n / 2);
    const Id negated = graph_.Mul(path + "/negated", second, MinusOne());
    const Id turned = graph_.Concatenate(path + "/turned", {negated, first}, 3);
    const Id by_sin = graph_.Mul(path + "/by_sin", turned, sines_);
    const Id by_cos = graph_.Mul(path + "/by_cos", rotated, cosines_);
    const Id sum = graph_.Add(path, by_cos, by_sin);
    if (!is_partial) return sum;
    const Id rest = graph_.Slice(path + "/rest", x, 3, n, size - n);
    return graph_.Concatenate(path + "/whole", {sum, rest}, 3);
  }

  Id MinusOne() {
    if (minus_one_ < 0) minus_one_ = graph_.Float("minus_one", -1.0F);
    return minus_one_;
  }

  // --- the parts of a layer -------------------------------------------------------------------

  void AddLayer(std::uint32_t index) {
    const auto layer = static_cast<std::int32_t>(index);
    const DecoderLayer& parts = network_.layers[index];
    const std::string path = fmt::format("layers.{}", layer);
    const Id x = AddNorm(parts.attention_norm, {TensorRole::kAttentionNorm, layer});
    const bool is_end = !is_decode_ && index + 1 == config_.n_layers;
    AddAttention(parts.attention, layer, path + "/attention", x, is_end);
    if (is_end) return;
    const Id y = AddNorm(parts.mlp_norm, {TensorRole::kMlpNorm, layer});
    std::visit([&](const auto& mlp) { AddMlp(mlp, layer, path + "/mlp", y); }, parts.mlp);
  }

  Id AddNorm(const NormSpec& norm, WeightId id) {
    return std::visit([&](const auto& kind) { return Normalize(kind, id); }, norm);
  }
  Id Normalize(const RmsNormSpec& norm, WeightId id) {
    const std::string path = id.layer < 0
                                 ? std::string(RoleName(id.role))
                                 : fmt::format("layers.{}/{}", id.layer, RoleName(id.role));
    const Id x = residual_;
    const Id mean = graph_.Mean(path + "/mean", graph_.Mul(path + "/squares", x, x));
    const Id variance =
        graph_.Add(path + "/variance", mean, graph_.Float(path + "/epsilon", norm.epsilon));
    const Id normed =
        graph_.Mul(path + "/normed", x, graph_.Unary(Op::kRsqrt, path + "/inverse", variance));
    return graph_.Mul(path, normed, Weight(id.role, id.layer));
  }

  void AddAttention(const AttentionSpec& spec, std::int32_t layer, const std::string& path, Id x,
                    bool only_caches) {
    const std::int32_t size = Int(spec.head_dim), n_heads = Int(spec.n_heads),
                       n_kv = Int(spec.n_kv_heads), n_shared = n_heads / n_kv;
    const Id qkv =
        graph_.FullyConnected(path + "/qkv", x, Weight(TensorRole::kAttentionQkv, layer));
    const auto heads = [&](std::string_view letter, std::int32_t first, std::int32_t n) {
      const std::string name = fmt::format("{}/{}", path, letter);
      const Id part = graph_.Slice(name, qkv, 2, first * size, n * size);
      return graph_.Transpose(name + "_heads",
                              graph_.Reshape(name + "_tokens", part, {1, n_tokens_, n, size}),
                              {0, 2, 1, 3});
    };
    const Id key = Rotate(path + "/k_rotary", heads("k", n_heads, n_kv));
    const Id value =
        graph_.Transpose(path + "/v_columns", heads("v", n_heads + n_kv, n_kv), {0, 1, 3, 2});
    Id& keys = caches_[2 * static_cast<std::size_t>(layer)];
    Id& values = caches_[2 * static_cast<std::size_t>(layer) + 1];
    keys = graph_.Update(path + "/keys", keys, key, key_place_);
    values = graph_.Update(path + "/values", values, value, value_place_);
    if (only_caches) return;

    const Id query = Rotate(path + "/q_rotary", heads("q", 0, n_heads));
    const auto root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
    const Id scaled = graph_.Mul(path + "/q_scaled", query, QueryScale(root));
    const Id rows = graph_.Reshape(path + "/q_rows", scaled, {1, n_kv, n_shared * n_tokens_, size});
    const Id mask = Mask(n_shared);
    const Id scores =
        graph_.Add(path + "/masked", graph_.MatMul(path + "/scores", rows, keys), mask);
    const Id mixed =
        graph_.MatMul(path + "/mixed", graph_.Softmax(path + "/softmax", scores), values);
    const Id of_heads = graph_.Reshape(path + "/mixed_heads", mixed, {1, n_heads, n_tokens_, size});
    const Id of_tokens = graph_.Reshape(
        path + "/mixed_rows", graph_.Transpose(path + "/mixed_tokens", of_heads, {0, 2, 1, 3}),
        {1, n_tokens_, n_heads * size});
    const Id output = graph_.FullyConnected(path + "/output", of_tokens,
                                            Weight(TensorRole::kAttentionOutput, layer));
    residual_ = graph_.Add(path + "/residual", residual_, output);
  }

  Id QueryScale(float value) {
    if (query_scale_ < 0) query_scale_ = graph_.Float("query_scale", value);
    return query_scale_;
  }

  // For each of the query heads that share a key once.
  Id Mask(std::int32_t n_shared) {
    if (n_shared == 1) return mask_;
    if (wide_mask_ < 0)
      wide_mask_ = graph_.Concatenate(
          "mask_of_shared_heads", std::vector<Id>(static_cast<std::size_t>(n_shared), mask_), 2);
    return wide_mask_;
  }

  Id Normalize(const LayerNormSpec&, WeightId) {
    throw Error(ErrorCode::kInternal, "a LayerNorm, which the plan has let through");
  }
  void AddMlp(const Experts&, std::int32_t, const std::string&, Id) {
    throw Error(ErrorCode::kInternal, "experts, which the plan has let through");
  }
  void AddMlp(const GatedMlp& mlp, std::int32_t layer, const std::string& path, Id x) {
    const std::int32_t inner = Int(mlp.intermediate_size);
    const Id both =
        graph_.FullyConnected(path + "/gate_up", x, Weight(TensorRole::kMlpGateUp, layer));
    const Id gate = graph_.Slice(path + "/gate", both, 2, 0, inner);
    const Id up = graph_.Slice(path + "/up", both, 2, inner, inner);
    const Id silu =
        graph_.Mul(path + "/silu", gate, graph_.Unary(Op::kLogistic, path + "/sigmoid", gate));
    const Id down = graph_.FullyConnected(path + "/down", graph_.Mul(path + "/product", up, silu),
                                          Weight(TensorRole::kMlpDown, layer));
    residual_ = graph_.Add(path + "/residual", residual_, down);
  }

  // --- embedding and head ---------------------------------------------------------------------

  Id AddEmbedding() {
    const Id ids = graph_.Reshape("ids", tokens_, {n_tokens_});
    const Id rows = graph_.Lookup("embedding", ids, Weight(TensorRole::kTokenEmbedding));
    return graph_.Reshape("embedding_rows", rows, {1, n_tokens_, Int(config_.hidden_size)});
  }

  // A head that is the embedding has no line of its own.
  Id AddHead() {
    const Id x = AddNorm(network_.output_norm, {TensorRole::kOutputNorm});
    const bool is_tied = !weights_.contains({TensorRole::kOutputHead, -1});
    return graph_.FullyConnected(
        "logits", x, Weight(is_tied ? TensorRole::kTokenEmbedding : TensorRole::kOutputHead));
  }

  const ModelConfig& config_;
  const Network& network_;
  const GraphChoices& choices_;
  const std::int32_t n_tokens_;
  const bool is_decode_;
  GraphBuilder graph_;
  std::map<std::pair<TensorRole, std::int32_t>, Id> weights_;
  Id tokens_ = -1, positions_ = -1, mask_ = -1, wide_mask_ = -1;
  Id cosines_ = -1, sines_ = -1, key_place_ = -1, value_place_ = -1;
  Id minus_one_ = -1, query_scale_ = -1;
  Id residual_ = -1;
  std::vector<Id> caches_;  // keys and values of each layer
};

}  // namespace

ModelGraph BuildModelGraph(const ModelConfig& config, std::span<const PlanLine> lines,
                           const GraphChoices& choices) {
  const Network network = NetworkOf(config);
  ModelGraph model;
  const auto add = [&](std::uint32_t n_tokens, bool is_decode) {
    model.subgraphs.push_back(
        SignatureGraph(config, network, lines, choices, n_tokens, is_decode, model.pool).Build());
  };
  add(1, /*is_decode=*/true);
  for (const std::uint32_t n_tokens : choices.prefill_lengths) add(n_tokens, /*is_decode=*/false);
  return model;
}

}  // namespace phiq::litert
