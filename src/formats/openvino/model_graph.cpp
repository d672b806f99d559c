// A function for each part of the model. The forms of attention, rotation and norms are those that
// OpenVINO's plugins recognise and replace by one node (docs/formats/openvino.md "Fusions"):
// another form is as right, and many times slower.
#include "formats/openvino/model_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "base/half.h"
#include "model/bias.h"
#include "model/rope.h"
#include "model/weights.h"
#include "phiq/error.h"

namespace phiq::openvino {
namespace {

// The lowest float16: minus infinity would give NaN in rows of padding, all of whose columns are
// hidden.
constexpr float kHidden = -kHalfMax;

class ModelGraph {
 public:
  ModelGraph(const ModelConfig& config, const Plan& plan)
      : config_(config), network_(NetworkOf(config)), plan_(plan), graph_("phiq") {
    for (std::size_t i = 0; i < plan.lines.size(); ++i)
      lines_[{plan.lines[i].role, plan.lines[i].layer}] = i;
  }

  GraphBuilder Build() {
    AddInputs();
    AddLengths();
    AddMask();
    AddRotaryTables();
    AddEmptyCache();
    residual_ = AddEmbedding();
    for (std::uint32_t i = 0; i < config_.n_layers; ++i) {
      const auto index = static_cast<std::int32_t>(i);
      const DecoderLayer& layer = network_.layers[i];
      AddAttention(layer.attention, index,
                   AddNorm(layer.attention_norm, {TensorRole::kAttentionNorm, index}));
      const Value x = AddNorm(layer.mlp_norm, {TensorRole::kMlpNorm, index});
      std::visit([&](const auto& mlp) { AddMlp(mlp, index, x); }, layer.mlp);
    }
    const Value logits = AddHead();
    for (const auto& [variable, value] : new_caches_) graph_.Assign(variable, value);
    graph_.Result("logits", logits);
    return std::move(graph_);
  }

 private:
  std::size_t LineOf(TensorRole role, std::int32_t layer) const {
    if (const auto found = lines_.find({role, layer}); found != lines_.end()) return found->second;
    throw Error(ErrorCode::kInternal,
                fmt::format("no weight for {} of layer {}", RoleName(role), layer));
  }

  // The module of a weight, "model.layers.3.mlp.down_proj", and the one that it is part of: what
  // the exporter of PyTorch models calls its layers by.
  std::string Module(WeightId id) const { return ModuleName(config_, id); }
  std::string OuterModule(WeightId id) const {
    const std::string module = Module(id);
    return module.substr(0, module.rfind('.'));
  }

  // --- inputs, lengths and mask ---------------------------------------------------------------

  void AddInputs() {
    input_ids_ = graph_.Parameter("input_ids", ElementType::kI64, {kDynamic, kDynamic});
    attention_mask_ = graph_.Parameter("attention_mask", ElementType::kI64, {kDynamic, kDynamic});
    position_ids_ = graph_.Parameter("position_ids", ElementType::kI64, {kDynamic, kDynamic});
    beam_idx_ = graph_.Parameter("beam_idx", ElementType::kI32, {kDynamic});
  }

  // A dimension of x as a number, or as a vector of one.
  Value DimOf(const std::string& name, Value shape, std::int64_t axis, bool as_vector) {
    const Value index = as_vector ? graph_.Constant(std::vector<std::int64_t>{axis})  //
                                  : graph_.Constant(axis);
    return graph_.Gather(name, shape, index, 0);
  }

  void AddLengths() {
    const Value shape = graph_.ShapeOf("input_ids/ShapeOf", input_ids_);
    batch_ = DimOf("batch", shape, 0, /*as_vector=*/true);
    n_new_ = DimOf("new_length", shape, 1, /*as_vector=*/false);
    const Value total_shape = graph_.ShapeOf("attention_mask/ShapeOf", attention_mask_);
    n_total_ = DimOf("total_length", total_shape, 1, /*as_vector=*/false);
  }

  // 0 where a token is seen and kHidden elsewhere: [batch, 1, new, total]. A token sees itself and
  // those before it (with a sliding window so many of them), but no padding.
  void AddMask() {
    const Value one = graph_.Constant(std::int64_t{1});
    const Value zero = graph_.Constant(std::int64_t{0});
    const Value n_past = graph_.Binary("Subtract", "mask/past_length", n_total_, n_new_);
    const Value rows = graph_.Unsqueeze(
        "mask/rows", graph_.Range("mask/row_range", n_past, n_total_, one, ElementType::kI64), 1);
    const Value columns = graph_.Unsqueeze(
        "mask/columns", graph_.Range("mask/column_range", zero, n_total_, one, ElementType::kI64),
        0);
    const Value causal = graph_.Binary("LessEqual", "mask/causal", columns, rows);
    const Value nothing = graph_.Constant(std::int64_t{0});
    Value real = graph_.Binary("NotEqual", "mask/real", attention_mask_, nothing);
    real = graph_.Unsqueeze("mask/real_rows", real, 1);
    real = graph_.Unsqueeze("mask/real_heads", real, 2);
    if (HasSlidingWindow(config_)) return AddWindowMask(rows, columns, causal, real);
    const Value keep = graph_.Binary("LogicalAnd", "mask/keep", causal, real);
    mask_ = MaskOf(keep);
  }

  // The one form of a sliding window that the transformation to paged attention finds; in another
  // form the window would silently be lost there.
  void AddWindowMask(Value rows, Value columns, Value causal, Value real) {
    const Value minus_window =
        graph_.Constant(-std::int64_t{config_.sliding_window}, std::string(kMinusWindow));
    const Value before = graph_.Binary("Add", "mask/before_window", rows, minus_window);
    const Value is_near = graph_.Binary("Greater", "mask/window", columns, before);
    const bool yes = true;
    const Value always =
        graph_.Constant(ElementType::kBoolean, {}, std::as_bytes(std::span(&yes, 1)));
    Value keep = graph_.Binary("BitwiseAnd", "mask/real_window", real, is_near);
    keep = graph_.Binary("BitwiseAnd", "mask/causal_window", keep, causal);
    keep = graph_.Binary("BitwiseAnd", "mask/always", always, keep);
    keep = graph_.Binary("BitwiseAnd", "mask/keep", keep, real);
    const Value ones = graph_.Constant(std::vector<std::int64_t>{1, 1, 1, 1});
    keep = graph_.Broadcast("mask/keep_of_heads", keep, ones, "bidirectional", graph_.DimsOf(keep));
    mask_ = graph_.SliceFrom("mask/all_columns", MaskOf(keep), 3, 0);
  }

  Value MaskOf(Value keep) {
    const Value visible = graph_.Constant(0.0F);
    const Value hidden = graph_.Constant(kHidden);
    return graph_.Select("mask", keep, visible, hidden);
  }

  // --- rotary tables --------------------------------------------------------------------------

  Value Frequencies(std::span<const float> frequencies, std::string_view name) {
    return graph_.Constant(ElementType::kF32, {1, static_cast<std::int64_t>(frequencies.size()), 1},
                           std::as_bytes(frequencies), std::string(name));
  }

  // Cosines and sines of every new position: [batch, 1, new, rope_dim].
  void AddRotaryTables() {
    const ConfigTables tables(config_);
    Value frequencies = Frequencies(tables.short_frequencies(), kFrequencies);
    if (config_.rope_scaling == RopeScalingType::kLongRope) {
      // Long factors for every token once the text is longer than the original context.
      const Value last =
          graph_.Reduce("ReduceMax", "rotary/last_position", position_ids_, {0, 1}, false);
      const Value limit =
          graph_.Constant(std::int64_t{config_.original_max_position_embeddings} - 1,
                          std::string(kLastShortPosition));
      const Value is_long = graph_.Binary("Greater", "rotary/is_long", last, limit);
      const Value long_frequencies = Frequencies(tables.long_frequencies(), kLongFrequencies);
      frequencies =
          graph_.Select("rotary/frequencies_of_length", is_long, long_frequencies, frequencies);
    }
    const Value positions = graph_.Convert(
        "rotary/positions", graph_.Unsqueeze("rotary/position_rows", position_ids_, 1),
        ElementType::kF32);
    const Value angles = graph_.Transpose(
        "rotary/angles", graph_.MatMul("rotary/MatMul", frequencies, positions, false), {0, 2, 1});
    const Value both_halves = graph_.Concat("rotary/both_halves", {angles, angles}, -1);
    const float factor = RopeAttentionFactor(config_);
    const auto table = [&](std::string_view type, const std::string& name) {
      Value values = graph_.Unary(type, "opset1", name, both_halves);
      if (factor != 1) {
        const Value scale = graph_.Constant(factor, {1, 1, 1}, name + "/factor");
        values = graph_.Binary("Multiply", name + "/scaled", values, scale);
      }
      return graph_.Unsqueeze(name + "/heads", values, 1);
    };
    cosines_ = table("Cos", "rotary/cos");
    sines_ = table("Sin", "rotary/sin");
  }

  // x [batch, heads, new, head_dim] turned: the first rope_dim elements of each head, whose halves
  // are the two coordinates.
  Value Rotate(const std::string& path, Value x) {
    const std::int64_t n_rotated = config_.rope_dim;
    Value rest;
    const bool is_partial = config_.rope_dim < config_.head_dim;
    if (is_partial) {
      const std::vector<Value> parts =
          graph_.Split(path + "/rotated_part", x, 3, {n_rotated, config_.head_dim - n_rotated});
      x = parts[0];
      rest = parts[1];
    }
    const std::vector<Value> halves =
        graph_.Split(path + "/halves", x, 3, {n_rotated / 2, n_rotated / 2});
    const Value minus_one = graph_.Constant(-1.0F, {1, 1, 1, 1});
    const Value negated = graph_.Binary("Multiply", path + "/negated", halves[1], minus_one);
    const Value turned = graph_.Concat(path + "/turned", {negated, halves[0]}, -1);
    const Value by_cosine = graph_.Binary("Multiply", path + "/by_cos", x, cosines_);
    const Value by_sine = graph_.Binary("Multiply", path + "/by_sin", turned, sines_);
    const Value rotated = graph_.Binary("Add", path, by_cosine, by_sine);
    if (!is_partial) return rotated;
    return graph_.Concat(path + "/whole", {rotated, rest}, -1);
  }

  // --- the parts of a layer -------------------------------------------------------------------

  Value AddNorm(const NormSpec& norm, WeightId id) {
    return std::visit([&](const auto& kind) { return Normalize(kind, id); }, norm);
  }
  Value Normalize(const LayerNormSpec& norm, WeightId id) {
    const std::string path = Module(id);
    const Value normed = graph_.Mvn(path + "/normed", residual_, norm.epsilon);
    const Value weight = AddVector(id);
    const Value scaled = graph_.Binary("Multiply", path + "/scaled", normed, weight);
    const Value bias = AddVector({BiasOf(id.role), id.layer});
    return graph_.Binary("Add", path, scaled, bias);
  }
  Value Normalize(const RmsNormSpec& norm, WeightId id) {
    const std::string path = Module(id);
    const Value two = graph_.Constant(2.0F, {1, 1, 1});
    const Value squares = graph_.Binary("Power", path + "/squares", residual_, two);
    const Value mean = graph_.Reduce("ReduceMean", path + "/mean", squares, {-1}, true);
    const Value epsilon =
        graph_.Constant(norm.epsilon, {1, 1, 1}, path + std::string(kEpsilonSuffix));
    const Value root = graph_.Unary("Sqrt", "opset1", path + "/root",
                                    graph_.Binary("Add", path + "/variance", mean, epsilon));
    const Value one = graph_.Constant(1.0F, {1, 1, 1});
    const Value inverse = graph_.Binary("Divide", path + "/inverse", one, root);
    const Value normed = graph_.Binary("Multiply", path + "/normed", residual_, inverse);
    const Value weight = AddVector(id);
    return graph_.Binary("Multiply", path, weight, normed);
  }

  // A norm or a bias, [1, 1, n].
  Value AddVector(WeightId id) {
    const std::size_t line = LineOf(id.role, id.layer);
    const PlanLine& plan_line = plan_.lines[line];
    return graph_.Stored(plan_line.name, ElementType::kF32,
                         {1, 1, static_cast<std::int64_t>(plan_line.row_elements())}, line, 0);
  }

  void AddAttention(const AttentionSpec& spec, std::int32_t layer, Value x) {
    const std::string path = OuterModule({TensorRole::kAttentionOutput, layer});
    const std::int64_t head_dim = spec.head_dim, n_heads = spec.n_heads,
                       n_kv_heads = spec.n_kv_heads;
    const std::vector<Value> parts = AddQueryKeyValue(spec, layer, path, x);
    const auto heads = [&](std::string_view letter, Value part, std::int64_t n) {
      const std::string name = fmt::format("{}/{}", path, letter);
      return graph_.Transpose(name + "_heads",
                              graph_.Reshape(name + "_tokens", part, {0, 0, n, head_dim}, true),
                              {0, 2, 1, 3});
    };
    const Value query = Rotate(path + "/q_rotary", heads("q", parts[0], n_heads));
    const Value key = Rotate(path + "/k_rotary", heads("k", parts[1], n_kv_heads));
    const Value value = heads("v", parts[2], n_kv_heads);
    const Value keys = AddCache(path, layer, "key", key);
    const Value values = AddCache(path, layer, "value", value);
    const std::size_t attention = graph_.AddLayer(
        "ScaledDotProductAttention", "opset13", path + "/attention", {query, keys, values, mask_},
        {{"FP32", {kDynamic, n_heads, kDynamic, head_dim}, ""}}, {{"causal", "false"}});
    const Value tokens = graph_.Transpose(path + "/attention_tokens", {attention, 0}, {0, 2, 1, 3});
    const Value rows =
        graph_.Reshape(path + "/attention_rows", tokens, {0, 0, n_heads * head_dim}, true);
    const Value output = AddLinear({TensorRole::kAttentionOutput, layer}, rows);
    residual_ = graph_.Binary("Add", path + "/residual", residual_, output);
  }

  std::vector<Value> AddQueryKeyValue(const AttentionSpec& spec, std::int32_t layer,
                                      const std::string& path, Value x) {
    if (spec.is_split) {
      const Value query = AddLinear({TensorRole::kAttentionQuery, layer}, x);
      const Value key = AddLinear({TensorRole::kAttentionKey, layer}, x);
      const Value value = AddLinear({TensorRole::kAttentionValue, layer}, x);
      return {query, key, value};
    }
    const std::int64_t n_queries = static_cast<std::int64_t>(spec.query_columns());
    const std::int64_t n_keys = static_cast<std::int64_t>(spec.key_columns());
    const Value qkv = AddLinear({TensorRole::kAttentionQkv, layer}, x);
    return graph_.Split(path + "/qkv", qkv, -1, {n_queries, n_keys, n_keys});
  }

  // What every cache holds before the first token: [batch, kv heads, 0, head_dim].
  void AddEmptyCache() {
    const Value heads = graph_.Constant(std::vector<std::int64_t>{config_.n_kv_heads});
    const Value none = graph_.Constant(std::vector<std::int64_t>{0});
    const Value head_dim = graph_.Constant(std::vector<std::int64_t>{config_.head_dim});
    const Value shape = graph_.Concat("cache/shape", {batch_, heads, none, head_dim}, 0);
    const Value zero = graph_.Constant(0.0F);
    empty_cache_ = graph_.Broadcast("cache/empty", zero, shape, "numpy",
                                    {kDynamic, config_.n_kv_heads, 0, config_.head_dim});
  }

  // The keys or values of all tokens so far, each repeated for the query heads that share it. Every
  // cache has nodes of its own, those that repeat included: plugins replace them as a whole.
  Value AddCache(const std::string& path, std::int32_t layer, std::string_view kind,
                 Value current) {
    // The name that OpenVINO's own transformation of stateless models would give.
    const std::string variable = fmt::format("past_key_values.{0}.{1}present.{0}.{1}", layer, kind);
    const std::string name = fmt::format("{}/{}s", path, kind);
    const Dims dims = {kDynamic, config_.n_kv_heads, kDynamic, config_.head_dim};
    const Value past = graph_.ReadValue(variable, empty_cache_, ElementType::kF32, dims);
    const Value of_beams = graph_.Gather(name + "_of_beams", past, beam_idx_, 0);
    const Value all = graph_.Concat(name, {of_beams, current}, 2);
    new_caches_.emplace_back(variable, all);
    const std::int64_t n_shared = config_.n_heads / config_.n_kv_heads;
    if (n_shared == 1) return all;
    const Value alone = graph_.Unsqueeze(name + "_alone", all, 2);
    const Value shape = graph_.Constant(std::vector<std::int64_t>{1, 1, n_shared, 1, 1});
    const Value repeated =
        graph_.Broadcast(name + "_repeated", alone, shape, "bidirectional",
                         {kDynamic, config_.n_kv_heads, n_shared, kDynamic, config_.head_dim});
    return graph_.Reshape(name + "_of_heads", repeated,
                          {0, config_.n_heads, kDynamic, config_.head_dim}, true);
  }

  // Every expert for every token, times weights of which two are not 0: the form that the exporter
  // of PyTorch models gives, and that plugins may replace.
  void AddMlp(const Experts& experts, std::int32_t layer, Value x) {
    const std::string path = OuterModule({TensorRole::kRouter, layer});
    const std::int64_t n = experts.n_experts, width = config_.hidden_size;
    const Value tokens = graph_.Reshape(path + "/tokens", x, {-1, width}, false);
    const Value weights = AddExpertWeights(experts, layer, path, tokens);
    const Value tiled = graph_.Tile(path + "/tiled", tokens, {n, 1});
    const Value inputs = graph_.Reshape(path + "/inputs", tiled, {n, -1, width}, false);
    const Value gate = AddExpertProduct({TensorRole::kExpertGate, layer}, inputs);
    const Value silu = graph_.Unary("Swish", "opset4", path + "/silu", gate);
    const Value up = AddExpertProduct({TensorRole::kExpertUp, layer}, inputs);
    const Value product = graph_.Binary("Multiply", path + "/product", silu, up);
    const Value outputs = AddExpertProduct({TensorRole::kExpertDown, layer}, product);
    const Value weighted = graph_.Binary("Multiply", path + "/weighted", outputs, weights);
    const Value summed = graph_.Reduce("ReduceSum", path + "/summed", weighted, {0}, false);
    const Value rows = graph_.ReshapeLike(path, summed, x);
    residual_ = graph_.Binary("Add", path + "/residual", residual_, rows);
  }

  Value AddExpertProduct(WeightId id, Value x) {
    const Value weight = AddWeight(LineOf(id.role, id.layer));
    return graph_.MatMul(Module(id), x, weight, /*transpose_b=*/true);
  }

  // What each expert counts for each token: [experts, tokens, 1]. See Experts.
  Value AddExpertWeights(const Experts& experts, std::int32_t layer, const std::string& path,
                         Value tokens) {
    const Value scores = AddLinear({TensorRole::kRouter, layer}, tokens);
    const Value magnitudes = graph_.Unary("Abs", "opset1", path + "/magnitudes", scores);
    const std::vector<Value> first =
        AddChoice(experts, path + "/first", scores, scores, magnitudes);
    // As if the first were not there.
    const Value hidden = graph_.Constant(kHidden);
    const Value index_shape = graph_.ShapeOf(path + "/index_shape", first[0]);
    const Value nothing =
        graph_.Broadcast(path + "/nothing", hidden, index_shape, "numpy", graph_.DimsOf(first[0]));
    const Value others = graph_.ScatterElements(path + "/others", scores, first[0], nothing, 1);
    const std::vector<Value> second =
        AddChoice(experts, path + "/second", others, scores, magnitudes);
    const Value indices = graph_.Concat(path + "/chosen", {first[0], second[0]}, 1);
    const Value weights = graph_.Concat(path + "/weights", {first[1], second[1]}, 1);
    const Value zero = graph_.Constant(0.0F);
    const Value shape = graph_.ShapeOf(path + "/scores_shape", scores);
    const Value zeros =
        graph_.Broadcast(path + "/zeros", zero, shape, "numpy", graph_.DimsOf(scores));
    const Value dense = graph_.ScatterElements(path + "/dense", zeros, indices, weights, 1);
    const Value of_experts = graph_.Transpose(path + "/of_experts", dense, {1, 0});
    return graph_.Unsqueeze(path + "/factors", of_experts, 2);
  }

  // The best of the candidates and its weight, [tokens, 1] each.
  std::vector<Value> AddChoice(const Experts& experts, const std::string& path, Value candidates,
                               Value scores, Value magnitudes) {
    const std::vector<Value> best = graph_.Top(path + "/best", candidates);
    const Value distance = graph_.Binary("Subtract", path + "/distance", best[0], scores);
    const Value scale = graph_.Binary("Maximum", path + "/scale", magnitudes, best[0]);
    const Value share = graph_.Binary("Divide", path + "/share", distance, scale);
    const Value limit = graph_.Constant(2 * experts.epsilon);
    const Value is_less = graph_.Binary("Greater", path + "/is_less", share, limit);
    const Value hidden = graph_.Constant(kHidden);
    const Value ties = graph_.Select(path + "/ties", is_less, hidden, candidates);
    const Value softmax = graph_.Softmax(path + "/softmax", ties, 1);
    const Value weight = graph_.GatherElements(path + "/weight", softmax, best[1], 1);
    return {best[1], weight};
  }
  void AddMlp(const GatedMlp& mlp, std::int32_t layer, Value x) {
    const std::string path = OuterModule({TensorRole::kMlpDown, layer});
    const Value both = AddLinear({TensorRole::kMlpGateUp, layer}, x);
    const std::int64_t inner = mlp.intermediate_size;
    const std::vector<Value> parts = graph_.Split(path + "/gate_up", both, -1, {inner, inner});
    const Value gate = graph_.Unary("Swish", "opset4", path + "/silu", parts[0]);
    const Value product = graph_.Binary("Multiply", path + "/product", gate, parts[1]);
    const Value output = AddLinear({TensorRole::kMlpDown, layer}, product);
    residual_ = graph_.Binary("Add", path + "/residual", residual_, output);
  }

  // --- embedding, head, matrix products -------------------------------------------------------

  Value AddEmbedding() {
    const Value table = AddWeight(LineOf(TensorRole::kTokenEmbedding, -1));
    const std::string path = Module({TensorRole::kTokenEmbedding});
    const Value ids = graph_.Convert(path + "/ids", input_ids_, ElementType::kI32);
    return graph_.Gather(path, table, ids, 0);
  }

  // A runtime that wants the logits of some tokens only looks for the product right before the
  // result.
  Value AddHead() {
    const Value x = AddNorm(network_.output_norm, {TensorRole::kOutputNorm});
    return AddLinear({TensorRole::kOutputHead}, x);
  }

  // A head that is the embedding has no line of its own.
  Value AddLinear(WeightId id, Value x) {
    const bool is_tied =
        id.role == TensorRole::kOutputHead && !lines_.contains({id.role, id.layer});
    const std::size_t line = LineOf(is_tied ? TensorRole::kTokenEmbedding : id.role, id.layer);
    const Value weight = AddWeight(line);
    const WeightId bias = {BiasOf(id.role), id.layer};
    const bool has_bias = bias.role != id.role && lines_.contains({bias.role, bias.layer});
    if (!has_bias) return graph_.MatMul(Module(id), x, weight, /*transpose_b=*/true);
    const Value product = graph_.MatMul(Module(id) + "/product", x, weight, /*transpose_b=*/true);
    const Value added = AddVector(bias);
    return graph_.Binary("Add", Module(id), product, added);
  }

  // The weight as float32 [rows, columns], or [experts, rows, columns]; one that serves twice is
  // stored once.
  Value AddWeight(std::size_t line) {
    if (const auto found = weights_.find(line); found != weights_.end()) return found->second;
    const auto* groups = std::get_if<GroupEncoding>(&plan_.lines[line].encoding);
    return weights_[line] = groups != nullptr ? AddIntegers(line, *groups) : AddFloats(line);
  }

  Value AddFloats(std::size_t line) {
    const PlanLine& plan_line = plan_.lines[line];
    const auto type = std::get<GgmlType>(plan_line.encoding);
    const ElementType element = type == GgmlType::kF32   ? ElementType::kF32
                                : type == GgmlType::kF16 ? ElementType::kF16
                                                         : ElementType::kBF16;
    const Value weight = graph_.Stored(plan_line.name, element, DimsOf(plan_line), line, 0);
    if (element == ElementType::kF32) return weight;
    return graph_.Convert(plan_line.name + "/convert", weight, ElementType::kF32,
                          /*is_decompression=*/true);
  }

  // (codes - zero points) * scales, in the one form that plugins keep compressed. The names are
  // those that NNCF gives; 1 is the input of the product (a table's only product is a lookup: 0).
  Value AddIntegers(std::size_t line, const GroupEncoding& groups) {
    const PlanLine& plan_line = plan_.lines[line];
    const Dims dims = DimsOf(plan_line);
    const bool has_groups = groups.group_size != 0;
    Dims code_dims = dims, scale_dims = dims;
    scale_dims.back() = 1;
    if (has_groups) {
      const auto n_groups = static_cast<std::int64_t>(GroupCount(groups, plan_line.row_elements()));
      code_dims.back() = scale_dims.back() = n_groups;
      code_dims.push_back(static_cast<std::int64_t>(groups.group_size));
      scale_dims.push_back(1);
    }
    const ElementType type = BitsOf(groups.code) == 8
                                 ? (IsSigned(groups.code) ? ElementType::kI8 : ElementType::kU8)
                                 : (IsSigned(groups.code) ? ElementType::kI4 : ElementType::kU4);
    const std::string& name = plan_line.name;
    Value weight = graph_.Convert(name + "/codes", graph_.Stored(name, type, code_dims, line, 0),
                                  ElementType::kF16);
    if (HasZeroPoints(groups)) {
      const Value zero_points = graph_.Convert(
          name + "/zero_point/convert",
          graph_.Stored(name + "/zero_point", type, scale_dims, line, 2), ElementType::kF16);
      weight = graph_.Binary("Subtract", name + "/zero_point/subtract", weight, zero_points);
    }
    const Value scales = graph_.Stored(name + "/scale", ElementType::kF16, scale_dims, line, 1);
    const int port = plan_line.role == TensorRole::kTokenEmbedding ? 0 : 1;
    const std::string product = fmt::format("{}/fq_weights_{}", name, port);
    weight = graph_.Binary("Multiply", product, weight, scales);
    if (has_groups) weight = graph_.Reshape(product + "/reshape", weight, dims, false);
    return graph_.Convert(product + "/convert", weight, ElementType::kF32,
                          /*is_decompression=*/true);
  }

  static Dims DimsOf(const PlanLine& line) {
    Dims dims;
    for (const std::uint64_t dim : line.shape) dims.push_back(static_cast<std::int64_t>(dim));
    return dims;
  }

  const ModelConfig& config_;
  const Network network_;
  const Plan& plan_;
  GraphBuilder graph_;
  std::map<std::pair<TensorRole, std::int32_t>, std::size_t> lines_;

  Value input_ids_, attention_mask_, position_ids_, beam_idx_;
  Value batch_, n_new_, n_total_, mask_, cosines_, sines_, empty_cache_;
  Value residual_;
  std::map<std::size_t, Value> weights_;  // by line
  std::vector<std::pair<std::string, Value>> new_caches_;
};

}  // namespace

GraphBuilder BuildModelGraph(const ModelConfig& config, const Plan& plan) {
  return ModelGraph(config, plan).Build();
}

}  // namespace phiq::openvino
