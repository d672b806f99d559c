// Runs the layers that an architecture's table lists. Sums have one fixed order whatever the number
// of threads: tiles are of one size, and a tile belongs to one thread.
#include "engine/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "base/buffer.h"
#include "engine/experts.h"
#include "engine/kernels.h"
#include "engine/product.h"
#include "phiq/error.h"

namespace phiq::engine {
namespace {

// Of the widest thing that stands between a layer's input and its output.
std::size_t WideColumns(const GatedMlp& mlp) { return mlp.intermediate_size; }
std::size_t WideColumns(const Experts& experts) { return WideColumns(experts.expert); }

// Of what choosing experts and their tokens takes.
std::size_t ChoiceColumns(const GatedMlp&, const ModelConfig&) { return 0; }
std::size_t ChoiceColumns(const Experts& experts, const ModelConfig& config) {
  return experts.n_experts + config.hidden_size;
}

// What a norm does to rows.
class Normalizer {
 public:
  Normalizer(const ForwardModel& model, const NormSpec& norm, WeightId weight, WeightId bias)
      : norm_(norm), weight_(model.ReadVector(weight)) {
    const auto* rms = std::get_if<RmsNormSpec>(&norm);
    if (rms == nullptr || rms->has_bias) bias_ = model.ReadVector(bias);
  }
  // out = norm(x), [n] each.
  void Run(std::span<const float> x, std::span<float> out) const {
    std::visit([&](const auto& kind) { Run(kind, x, out); }, norm_);
  }

 private:
  void Run(const RmsNormSpec& norm, std::span<const float> x, std::span<float> out) const {
    RmsNorm(x.data(), weight_.data(), norm.epsilon, x.size(), out.data());
    if (norm.has_bias) Add(out.data(), bias_.data(), out.size());
  }
  void Run(const LayerNormSpec& norm, std::span<const float> x, std::span<float> out) const {
    LayerNorm(x.data(), weight_.data(), bias_.data(), norm.epsilon, x.size(), out.data());
  }

  const NormSpec& norm_;
  std::vector<float> weight_, bias_;
};

}  // namespace

void Matrix::Resize(std::size_t rows, std::size_t columns) {
  n_rows = rows;
  n_columns = columns;
  Renew(values, rows * columns);
}

void ForEachTile(const Runner& runner, const WeightIndex& weights, WeightId id,
                 const WeightShape& shape,
                 const std::function<void(std::size_t first_row, std::span<const float> rows,
                                          unsigned worker)>& use) {
  ForEachTile(runner, weights, {id, 0, shape.n_rows, shape.row_elements}, use);
}

void ForEachTile(const Runner& runner, const WeightIndex& weights, const WeightRows& of,
                 const std::function<void(std::size_t first_row, std::span<const float> rows,
                                          unsigned worker)>& use) {
  struct Worker {
    RowCodec codec;
    std::vector<float> rows;
  };
  std::vector<Worker> workers(runner.threads);
  runner.ForEach((of.n_rows + kTileRows - 1) / kTileRows, [&](std::size_t item, unsigned i) {
    const std::size_t first_row = item * kTileRows;
    const std::size_t n_rows = std::min<std::size_t>(kTileRows, of.n_rows - first_row);
    Worker& worker = workers[i];
    worker.rows.resize(n_rows * of.row_elements);
    weights.ReadRows(of.id, of.first_row + first_row, n_rows, worker.codec, worker.rows);
    use(first_row, worker.rows, i);
  });
}

ForwardModel::ForwardModel(const StoredModel& model, std::uint32_t n_ctx)
    : model_(model), weights_(model), network_(model.network()) {
  cosines_.Resize(n_ctx, config().rope_dim / 2);
  sines_.Resize(n_ctx, config().rope_dim / 2);
  model.ReadRotary(n_ctx, cosines_.values, sines_.values);
  if (network_.has_head_bias) head_bias_ = ReadVector({TensorRole::kOutputHeadBias});
}

std::vector<float> ForwardModel::ReadVector(WeightId id) const {
  std::vector<float> vector(ShapeOf(config(), id.role).row_elements);
  RowCodec codec;
  weights_.ReadRows(id, 0, 1, codec, vector);
  return vector;
}

KeyValues::KeyValues(const ForwardModel& model, std::size_t n_texts) {
  for (const DecoderLayer& layer : model.network().layers)
    layers.emplace_back().Resize(n_texts * model.n_ctx(), 2 * layer.attention.key_columns());
}

std::uint64_t KeyValues::Bytes(const ModelConfig& config, std::size_t n_texts,
                               std::uint32_t n_ctx) {
  std::uint64_t columns = 0;
  for (const DecoderLayer& layer : NetworkOf(config).layers)
    columns += 2 * layer.attention.key_columns();
  return columns * n_texts * n_ctx * sizeof(float);
}

std::size_t ForwardPass::WidestFloats(const ModelConfig& config) {
  std::size_t wide = config.hidden_size;
  for (const DecoderLayer& layer : NetworkOf(config).layers) {
    const AttentionSpec& attention = layer.attention;
    wide = std::max({wide, attention.query_columns() + 2 * attention.key_columns(),
                     std::visit([](const auto& mlp) { return WideColumns(mlp); }, layer.mlp)});
  }
  return wide;
}

std::size_t ForwardPass::ScratchFloats(const ModelConfig& config) {
  std::size_t input = config.hidden_size, choice = 0;
  for (const DecoderLayer& layer : NetworkOf(config).layers) {
    input = std::max(input, layer.attention.query_columns());
    choice = std::max(
        choice, std::visit([&](const auto& mlp) { return ChoiceColumns(mlp, config); }, layer.mlp));
  }
  return input + WidestFloats(config) + choice;
}

void ForwardPass::Embed(const ForwardModel& model, std::span<const std::uint32_t> ids,
                        Matrix& hidden) {
  hidden.Resize(ids.size(), model.config().hidden_size);
  std::vector<RowCodec> codecs(runner_.threads);
  runner_.ForEach(ids.size(), [&](std::size_t t, unsigned worker) {
    model.weights().ReadRows({TensorRole::kTokenEmbedding}, ids[t], 1, codecs[worker],
                             hidden.Row(t));
  });
}

void ForwardPass::RunLayer(const ForwardModel& model, std::int32_t layer, Matrix& hidden,
                           const Tap& tap) {
  const AttentionSpec& spec = model.network().layers[static_cast<std::size_t>(layer)].attention;
  const std::size_t n_ctx = model.n_ctx();
  const auto attend = [&] {
    RotateQueriesAndKeys(model, spec, [n_ctx](std::size_t t) { return t % n_ctx; });
    Attend(model, spec);
  };
  RunLayerAround(model, layer, attend, hidden, tap);
}

void ForwardPass::RunLayer(const ForwardModel& model, std::int32_t layer, KeyValues& past,
                           Matrix& hidden) {
  const auto index = static_cast<std::size_t>(layer);
  const AttentionSpec& spec = model.network().layers[index].attention;
  const auto attend = [&] {
    RotateQueriesAndKeys(model, spec, [&](std::size_t) { return past.position; });
    AttendPast(model, spec, past, past.layers[index]);
  };
  RunLayerAround(model, layer, attend, hidden, {});
}

void ForwardPass::RunLayerAround(const ForwardModel& model, std::int32_t layer,
                                 const std::function<void()>& attend, Matrix& hidden,
                                 const Tap& tap) {
  const auto show = [&](TensorRole role) {
    if (tap) tap({role, layer}, input_);
  };
  const DecoderLayer& spec = model.network().layers[static_cast<std::size_t>(layer)];
  Normalize(model, spec.attention_norm, {TensorRole::kAttentionNorm, layer},
            {TensorRole::kAttentionNormBias, layer}, hidden);
  MultiplyQueriesKeysValues(model, spec.attention, layer, tap);
  attend();
  show(TensorRole::kAttentionOutput);
  AddAttention(model, spec.attention, layer, hidden);

  Normalize(model, spec.mlp_norm, {TensorRole::kMlpNorm, layer}, {TensorRole::kMlpNormBias, layer},
            hidden);
  std::visit([&](const auto& mlp) { AddMlp(model, mlp, layer, hidden, tap); }, spec.mlp);

  RequireFinite(hidden, layer);
}

void ForwardPass::RequireFinite(const Matrix& hidden, std::int32_t layer) const {
  ForEachRow(hidden.n_rows, [&](std::size_t t) {
    if (AllFinite(hidden.Row(t).data(), hidden.n_columns)) return;
    throw Error(ErrorCode::kNumeric,
                fmt::format("the hidden state has a NaN or Inf behind layer {}", layer));
  });
}

void ForwardPass::AddAttention(const ForwardModel& model, const AttentionSpec& spec,
                               std::int32_t layer, Matrix& hidden) const {
  AddProduct(model, {TensorRole::kAttentionOutput, layer}, input_, hidden);
  if (!spec.has_bias) return;
  const std::vector<float> bias = model.ReadVector({TensorRole::kAttentionOutputBias, layer});
  ForEachRow(hidden.n_rows,
             [&](std::size_t t) { Add(hidden.Row(t).data(), bias.data(), bias.size()); });
}

void ForwardPass::StartLayer(const ForwardModel& model, std::int32_t layer, const Matrix& hidden,
                             Matrix& x) {
  const DecoderLayer& spec = model.network().layers[static_cast<std::size_t>(layer)];
  Normalize(model, spec.attention_norm, {TensorRole::kAttentionNorm, layer},
            {TensorRole::kAttentionNormBias, layer}, hidden);
  std::swap(input_, x);
}

void ForwardPass::Step(const ForwardModel& model, WeightId weight, Matrix& hidden, Matrix& x) {
  const std::int32_t layer = weight.layer;
  const DecoderLayer& spec = model.network().layers[static_cast<std::size_t>(layer)];
  std::swap(input_, x);
  switch (weight.role) {
    case TensorRole::kAttentionQkv:
    case TensorRole::kAttentionQuery: {
      MultiplyQueriesKeysValues(model, spec.attention, layer, {});
      const std::size_t n_ctx = model.n_ctx();
      RotateQueriesAndKeys(model, spec.attention, [n_ctx](std::size_t t) { return t % n_ctx; });
      Attend(model, spec.attention);
      return std::swap(input_, x);
    }
    case TensorRole::kAttentionOutput:
      AddAttention(model, spec.attention, layer, hidden);
      Normalize(model, spec.mlp_norm, {TensorRole::kMlpNorm, layer},
                {TensorRole::kMlpNormBias, layer}, hidden);
      return std::swap(input_, x);
    case TensorRole::kMlpGateUp:
      MultiplyGateUp(model, weight);
      return std::swap(wide_, x);
    case TensorRole::kMlpDown:
      AddProduct(model, weight, input_, hidden);
      return RequireFinite(hidden, layer);
    case TensorRole::kExpertGate:
      AddMlp(model, std::get<Experts>(spec.mlp), layer, hidden, {});
      return RequireFinite(hidden, layer);
    default:
      throw Error(ErrorCode::kInternal,
                  fmt::format("{} is the first of no input", RoleName(weight.role)));
  }
}

bool ForwardPass::MovesHidden(WeightId weight) noexcept {
  return weight.role == TensorRole::kAttentionOutput || EndsLayer(weight);
}

bool ForwardPass::EndsLayer(WeightId weight) noexcept {
  return weight.role == TensorRole::kMlpDown || weight.role == TensorRole::kExpertGate;
}

void ForwardPass::NormalizeOutput(const ForwardModel& model, const Matrix& hidden,
                                  std::span<const std::size_t> positions, Matrix& out) const {
  const Normalizer norm(model, model.network().output_norm, {TensorRole::kOutputNorm},
                        {TensorRole::kOutputNormBias});
  out.Resize(positions.size(), hidden.n_columns);
  for (std::size_t i = 0; i < positions.size(); ++i) norm.Run(hidden.Row(positions[i]), out.Row(i));
}

void ForwardPass::ForEachRow(std::size_t n_rows,
                             const std::function<void(std::size_t)>& use) const {
  constexpr std::size_t kRowsAtOnce = 128;
  runner_.ForEach((n_rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::size_t item, unsigned) {
    const std::size_t first = item * kRowsAtOnce;
    for (std::size_t r = first; r < std::min(first + kRowsAtOnce, n_rows); ++r) use(r);
  });
}

// input_ = norm(hidden)
void ForwardPass::Normalize(const ForwardModel& model, const NormSpec& norm, WeightId id,
                            WeightId bias, const Matrix& hidden) {
  const Normalizer normalizer(model, norm, id, bias);
  input_.Resize(hidden.n_rows, hidden.n_columns);
  ForEachRow(hidden.n_rows, [&](std::size_t t) { normalizer.Run(hidden.Row(t), input_.Row(t)); });
}

// wide_ = queries, keys and values of input_, one behind the other
void ForwardPass::MultiplyQueriesKeysValues(const ForwardModel& model, const AttentionSpec& spec,
                                            std::int32_t layer, const Tap& tap) {
  wide_.Resize(input_.n_rows, spec.query_columns() + 2 * spec.key_columns());
  if (!spec.is_split) {
    const WeightId id = {TensorRole::kAttentionQkv, layer};
    if (tap) tap(id, input_);
    return Multiply(model, id, input_, wide_);
  }
  using enum TensorRole;
  std::size_t column = 0;
  for (const auto& [role, bias_role] : {std::pair(kAttentionQuery, kAttentionQueryBias),
                                        std::pair(kAttentionKey, kAttentionKeyBias),
                                        std::pair(kAttentionValue, kAttentionValueBias)}) {
    if (tap) tap({role, layer}, input_);
    Multiply(model, {role, layer}, input_, wide_, column);
    const std::size_t n = ShapeOf(model.config(), role).n_rows;
    if (spec.has_bias) {
      const std::vector<float> bias = model.ReadVector({bias_role, layer});
      ForEachRow(wide_.n_rows,
                 [&](std::size_t t) { Add(wide_.Row(t).data() + column, bias.data(), n); });
    }
    column += n;
  }
}

void ForwardPass::Multiply(const ForwardModel& model, WeightId id, const Matrix& x, Matrix& out,
                           std::size_t first_column) const {
  ForEachTile(runner_, model.weights(), id, ShapeOf(model.config(), id.role),
              [&](std::size_t first_row, std::span<const float> rows, unsigned) {
                MultiplyByRows(x.values.data(), x.n_rows, x.n_columns, rows.data(),
                               rows.size() / x.n_columns,
                               out.values.data() + first_column + first_row, out.n_columns);
              });
}

void ForwardPass::AddMlp(const ForwardModel& model, const GatedMlp&, std::int32_t layer,
                         Matrix& hidden, const Tap& tap) {
  const WeightId id = {TensorRole::kMlpGateUp, layer};
  if (tap) tap(id, input_);
  MultiplyGateUp(model, id);
  if (tap) tap({TensorRole::kMlpDown, layer}, wide_);
  AddProduct(model, {TensorRole::kMlpDown, layer}, wide_, hidden);
}

std::vector<std::vector<ExpertUse>> ForwardPass::Route(const ForwardModel& model,
                                                       const Experts& experts, std::int32_t layer,
                                                       const Matrix& x) {
  scores_.Resize(x.n_rows, experts.n_experts);
  Multiply(model, {TensorRole::kRouter, layer}, x, scores_);
  std::vector<std::vector<ExpertUse>> uses(experts.n_experts);
  for (std::size_t t = 0; t < x.n_rows; ++t) {
    for (const ExpertChoice& choice : ChooseExperts(scores_.Row(t), experts))
      uses[choice.expert].push_back({t, choice.weight});
  }
  return uses;
}

void ForwardPass::RunExpertInside(const ForwardModel& model, const Experts& experts,
                                  std::int32_t layer, std::uint32_t expert, const Matrix& x,
                                  Matrix& inner) {
  MultiplyGateUp(model, experts, layer, expert, x);
  std::swap(wide_, inner);
}

// Expert by expert, with the tokens that chose it, so that each weight is decoded once.
void ForwardPass::AddMlp(const ForwardModel& model, const Experts& experts, std::int32_t layer,
                         Matrix& hidden, const Tap& tap) {
  const std::vector<std::vector<ExpertUse>> uses = Route(model, experts, layer, input_);
  const std::size_t n_inner = experts.expert.intermediate_size;
  for (std::uint32_t e = 0; e < experts.n_experts; ++e) {
    const std::vector<ExpertUse>& tokens = uses[e];
    if (tokens.empty()) continue;
    chosen_.Resize(tokens.size(), input_.n_columns);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      std::ranges::copy(input_.Row(tokens[i].token), chosen_.Row(i).begin());
    const auto show = [&](TensorRole role, const Matrix& x) {
      if (tap) tap({role, layer, static_cast<std::int32_t>(e)}, x);
    };
    show(TensorRole::kExpertGate, chosen_);
    show(TensorRole::kExpertUp, chosen_);
    MultiplyGateUp(model, experts, layer, e, chosen_);
    show(TensorRole::kExpertDown, wide_);
    ForEachProduct(
        model,
        {{TensorRole::kExpertDown, layer}, e * hidden.n_columns, hidden.n_columns, n_inner}, wide_,
        [&](std::size_t i, std::size_t first_row, std::span<const float> product) {
          AddScaled(hidden.Row(tokens[i].token).data() + first_row, tokens[i].weight,
                    product.data(), product.size());
        });
  }
}

// Of x, by the rows of one expert.
void ForwardPass::MultiplyGateUp(const ForwardModel& model, const Experts& experts,
                                 std::int32_t layer, std::uint32_t expert, const Matrix& x) {
  const std::size_t n_inner = experts.expert.intermediate_size;
  const auto rows = [&](TensorRole role) {
    return WeightRows{{role, layer}, expert * n_inner, n_inner, x.n_columns};
  };
  MultiplyGateUp(model, rows(TensorRole::kExpertGate), rows(TensorRole::kExpertUp), x);
}

// Of input_, by the rows of gate and then those of up.
void ForwardPass::MultiplyGateUp(const ForwardModel& model, WeightId gate_up) {
  const WeightShape shape = ShapeOf(model.config(), gate_up.role);
  const std::uint64_t n_inner = shape.n_rows / 2;
  MultiplyGateUp(model, {gate_up, 0, n_inner, shape.row_elements},
                 {gate_up, n_inner, n_inner, shape.row_elements}, input_);
}

// wide_ = silu(gate(x)) * up(x), tile by tile: neither factor is stored whole.
void ForwardPass::MultiplyGateUp(const ForwardModel& model, const WeightRows& gate,
                                 const WeightRows& up, const Matrix& x) {
  struct Worker {
    RowCodec codec;
    std::vector<float> rows, gate, up;
  };
  const std::size_t n_inner = gate.n_rows;
  const std::size_t n_tokens = x.n_rows;
  wide_.Resize(n_tokens, n_inner);
  std::vector<Worker> workers(runner_.threads);
  runner_.ForEach((n_inner + kTileRows - 1) / kTileRows, [&](std::size_t item, unsigned i) {
    Worker& worker = workers[i];
    const std::size_t first = item * kTileRows;
    const std::size_t n = std::min(kTileRows, n_inner - first);
    worker.rows.resize(n * x.n_columns);
    const auto multiply = [&](const WeightRows& of, std::vector<float>& out) {
      out.resize(n_tokens * n);
      model.weights().ReadRows(of.id, of.first_row + first, n, worker.codec, worker.rows);
      MultiplyByRows(x.values.data(), n_tokens, x.n_columns, worker.rows.data(), n, out.data(), n);
    };
    multiply(gate, worker.gate);
    multiply(up, worker.up);
    for (std::size_t t = 0; t < n_tokens; ++t) {
      SwiGlu(&worker.gate[t * n], &worker.up[t * n], n, wide_.Row(t).data() + first);
    }
  });
}

void ForwardPass::AddProduct(const ForwardModel& model, WeightId id, const Matrix& x,
                             Matrix& hidden) const {
  const WeightShape shape = ShapeOf(model.config(), id.role);
  ForEachProduct(model, {id, 0, shape.n_rows, shape.row_elements}, x,
                 [&](std::size_t t, std::size_t first_row, std::span<const float> product) {
                   Add(hidden.Row(t).data() + first_row, product.data(), product.size());
                 });
}

void ForwardPass::ForEachProduct(
    const ForwardModel& model, const WeightRows& of, const Matrix& x,
    const std::function<void(std::size_t token, std::size_t first_row,
                             std::span<const float> product)>& use) const {
  struct Worker {
    std::vector<float> product;
  };
  std::vector<Worker> workers(runner_.threads);
  ForEachTile(runner_, model.weights(), of,
              [&](std::size_t first_row, std::span<const float> rows, unsigned i) {
                const std::size_t n = rows.size() / x.n_columns;
                std::vector<float>& product = workers[i].product;
                product.resize(x.n_rows * n);
                MultiplyByRows(x.values.data(), x.n_rows, x.n_columns, rows.data(), n,
                               product.data(), n);
                for (std::size_t t = 0; t < x.n_rows; ++t)
                  use(t, first_row, std::span(product).subspan(t * n, n));
              });
}

void ForwardPass::RotateQueriesAndKeys(
    const ForwardModel& model, const AttentionSpec& spec,
    const std::function<std::size_t(std::size_t t)>& position_of) {
  const std::size_t n_rotated = std::size_t{spec.n_heads} + spec.n_kv_heads;  // K follows Q
  ForEachRow(wide_.n_rows, [&](std::size_t t) {
    const std::size_t position = position_of(t);
    for (std::size_t head = 0; head < n_rotated; ++head) {
      Rotate(wide_.Row(t).data() + head * spec.head_dim, model.cosines().Row(position).data(),
             model.sines().Row(position).data(), spec.rope_dim / 2);
    }
  });
}

// input_ = attention over wide_; a query head shares its key and value with its neighbours.
void ForwardPass::Attend(const ForwardModel& model, const AttentionSpec& spec) {
  const std::size_t n_ctx = model.n_ctx();
  input_.Resize(wide_.n_rows, spec.query_columns());
  std::vector<std::vector<float>> scores(runner_.threads);
  runner_.ForEach(wide_.n_rows / n_ctx * spec.n_heads, [&](std::size_t item, unsigned worker) {
    const std::size_t head = item % spec.n_heads;
    const std::size_t kv_head = head / (spec.n_heads / spec.n_kv_heads);
    const std::size_t first = item / spec.n_heads * n_ctx;
    const float* const q = wide_.Row(first).data();
    const float* const k = q + spec.query_columns() + kv_head * spec.head_dim;
    scores[worker].resize(kQueryBlock * n_ctx);
    engine::Attend({.q = q + head * spec.head_dim,
                    .k = k,
                    .v = k + spec.key_columns(),
                    .stride = wide_.n_columns,
                    .out = input_.Row(first).data() + head * spec.head_dim,
                    .out_stride = input_.n_columns,
                    .n_positions = n_ctx,
                    .head_dim = spec.head_dim,
                    .window = spec.sliding_window == 0 ? n_ctx : std::size_t{spec.sliding_window}},
                   scores[worker].data());
  });
}

// input_ = attention over the keys and values so far, of which wide_ has the last.
void ForwardPass::AttendPast(const ForwardModel& model, const AttentionSpec& spec,
                             const KeyValues& past, Matrix& keys_and_values) {
  const std::size_t n_ctx = model.n_ctx();
  const std::size_t n_texts = wide_.n_rows;
  for (std::size_t text = 0; text < n_texts; ++text) {
    std::ranges::copy(wide_.Row(text).subspan(spec.query_columns()),
                      keys_and_values.Row(text * n_ctx + past.position).begin());
  }
  input_.Resize(n_texts, spec.query_columns());
  std::vector<std::vector<float>> scores(runner_.threads);
  runner_.ForEach(n_texts * spec.n_heads, [&](std::size_t item, unsigned worker) {
    const std::size_t text = item / spec.n_heads;
    const std::size_t head = item % spec.n_heads;
    const std::size_t kv_head = head / (spec.n_heads / spec.n_kv_heads);
    const float* const k = keys_and_values.Row(text * n_ctx).data() + kv_head * spec.head_dim;
    scores[worker].resize(kQueryBlock * n_ctx);
    engine::Attend({.q = wide_.Row(text).data() + head * spec.head_dim,
                    .k = k,
                    .v = k + spec.key_columns(),
                    .stride = keys_and_values.n_columns,
                    .out = input_.Row(text).data() + head * spec.head_dim,
                    .out_stride = input_.n_columns,
                    .n_positions = past.position + 1,
                    .head_dim = spec.head_dim,
                    .first_query = past.position,
                    .window = spec.sliding_window == 0 ? n_ctx : std::size_t{spec.sliding_window}},
                   scores[worker].data());
  });
}

}  // namespace phiq::engine
