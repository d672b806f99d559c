// Runs the layers that an architecture's table lists. Sums have one fixed order whatever the number
// of threads: tiles are of one size, and a tile belongs to one thread.
#include "engine/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "base/buffer.h"
#include "engine/kernels.h"
#include "engine/product.h"
#include "phiq/error.h"

namespace phiq::engine {
namespace {

// Of the widest thing that stands between a layer's input and its output.
std::size_t WideColumns(const GatedMlp& mlp) { return mlp.intermediate_size; }

// out = norm(x), [n] each.
void NormalizeRow(const RmsNormSpec& norm, const float* x, const float* weight, std::size_t n,
                  float* out) {
  RmsNorm(x, weight, norm.epsilon, n, out);
}
void NormalizeRow(const NormSpec& norm, std::span<const float> x, std::span<const float> weight,
                  std::span<float> out) {
  std::visit(
      [&](const auto& kind) { NormalizeRow(kind, x.data(), weight.data(), x.size(), out.data()); },
      norm);
}

std::vector<float> ReadNorm(const ForwardModel& model, WeightId id) {
  std::vector<float> weight(model.config().hidden_size);
  RowCodec codec;
  model.weights().ReadRows(id, 0, 1, codec, weight);
  return weight;
}

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
  struct Worker {
    RowCodec codec;
    std::vector<float> rows;
  };
  std::vector<Worker> workers(runner.threads);
  runner.ForEach((shape.n_rows + kTileRows - 1) / kTileRows, [&](std::size_t item, unsigned i) {
    const std::size_t first_row = item * kTileRows;
    const std::size_t n_rows = std::min<std::size_t>(kTileRows, shape.n_rows - first_row);
    Worker& worker = workers[i];
    worker.rows.resize(n_rows * shape.row_elements);
    weights.ReadRows(id, first_row, n_rows, worker.codec, worker.rows);
    use(first_row, worker.rows, i);
  });
}

ForwardModel::ForwardModel(const StoredModel& model, std::uint32_t n_ctx)
    : model_(model), weights_(model), network_(NetworkOf(model.config())) {
  cosines_.Resize(n_ctx, config().rope_dim / 2);
  sines_.Resize(n_ctx, config().rope_dim / 2);
  model.ReadRotary(n_ctx, cosines_.values, sines_.values);
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

std::size_t ForwardPass::ScratchFloats(const ModelConfig& config) {
  std::size_t input = config.hidden_size, wide = 0;
  for (const DecoderLayer& layer : NetworkOf(config).layers) {
    const AttentionSpec& attention = layer.attention;
    input = std::max(input, attention.query_columns());
    wide = std::max({wide, attention.query_columns() + 2 * attention.key_columns(),
                     std::visit([](const auto& mlp) { return WideColumns(mlp); }, layer.mlp)});
  }
  return input + wide;
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
  Normalize(model, spec.attention_norm, {TensorRole::kAttentionNorm, layer}, hidden);
  show(TensorRole::kAttentionQkv);
  Multiply(model, {TensorRole::kAttentionQkv, layer}, wide_);
  attend();
  show(TensorRole::kAttentionOutput);
  AddProduct(model, {TensorRole::kAttentionOutput, layer}, input_, hidden);

  Normalize(model, spec.mlp_norm, {TensorRole::kMlpNorm, layer}, hidden);
  std::visit([&](const auto& mlp) { AddMlp(model, mlp, layer, hidden, tap); }, spec.mlp);

  ForEachRow(hidden.n_rows, [&](std::size_t t) {
    if (AllFinite(hidden.Row(t).data(), hidden.n_columns)) return;
    throw Error(ErrorCode::kNumeric,
                fmt::format("the hidden state has a NaN or Inf behind layer {}", layer));
  });
}

void ForwardPass::NormalizeOutput(const ForwardModel& model, const Matrix& hidden,
                                  std::span<const std::size_t> positions, Matrix& out) const {
  const std::vector<float> weight = ReadNorm(model, {TensorRole::kOutputNorm});
  out.Resize(positions.size(), hidden.n_columns);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    NormalizeRow(model.network().output_norm, hidden.Row(positions[i]), weight, out.Row(i));
  }
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
                            const Matrix& hidden) {
  const std::vector<float> weight = ReadNorm(model, id);
  input_.Resize(hidden.n_rows, hidden.n_columns);
  ForEachRow(hidden.n_rows,
             [&](std::size_t t) { NormalizeRow(norm, hidden.Row(t), weight, input_.Row(t)); });
}

// out = input_ * transposed(weight)
void ForwardPass::Multiply(const ForwardModel& model, WeightId id, Matrix& out) const {
  const WeightShape shape = ShapeOf(model.config(), id.role);
  out.Resize(input_.n_rows, shape.n_rows);
  ForEachTile(runner_, model.weights(), id, shape,
              [&](std::size_t first_row, std::span<const float> rows, unsigned) {
                MultiplyByRows(input_.values.data(), input_.n_rows, input_.n_columns, rows.data(),
                               rows.size() / input_.n_columns, out.values.data() + first_row,
                               out.n_columns);
              });
}

void ForwardPass::AddMlp(const ForwardModel& model, const GatedMlp& mlp, std::int32_t layer,
                         Matrix& hidden, const Tap& tap) {
  if (tap) tap({TensorRole::kMlpGateUp, layer}, input_);
  MultiplyGateUp(model, mlp, layer);
  if (tap) tap({TensorRole::kMlpDown, layer}, wide_);
  AddProduct(model, {TensorRole::kMlpDown, layer}, wide_, hidden);
}

// wide_ = silu(gate(input_)) * up(input_), tile by tile: neither factor is stored whole.
void ForwardPass::MultiplyGateUp(const ForwardModel& model, const GatedMlp& mlp,
                                 std::int32_t layer) {
  struct Worker {
    RowCodec codec;
    std::vector<float> rows, gate, up;
  };
  const std::size_t n_inner = mlp.intermediate_size;
  const std::size_t n_tokens = input_.n_rows;
  wide_.Resize(n_tokens, n_inner);
  std::vector<Worker> workers(runner_.threads);
  runner_.ForEach((n_inner + kTileRows - 1) / kTileRows, [&](std::size_t item, unsigned i) {
    Worker& worker = workers[i];
    const std::size_t first = item * kTileRows;
    const std::size_t n = std::min(kTileRows, n_inner - first);
    worker.rows.resize(n * input_.n_columns);
    const auto multiply = [&](std::size_t first_row, std::vector<float>& out) {
      out.resize(n_tokens * n);
      model.weights().ReadRows({TensorRole::kMlpGateUp, layer}, first_row, n, worker.codec,
                               worker.rows);
      MultiplyByRows(input_.values.data(), n_tokens, input_.n_columns, worker.rows.data(), n,
                     out.data(), n);
    };
    multiply(first, worker.gate);
    multiply(n_inner + first, worker.up);
    for (std::size_t t = 0; t < n_tokens; ++t) {
      SwiGlu(&worker.gate[t * n], &worker.up[t * n], n, wide_.Row(t).data() + first);
    }
  });
}

// hidden += x * transposed(weight)
void ForwardPass::AddProduct(const ForwardModel& model, WeightId id, const Matrix& x,
                             Matrix& hidden) const {
  struct Worker {
    std::vector<float> product;
  };
  std::vector<Worker> workers(runner_.threads);
  ForEachTile(runner_, model.weights(), id, ShapeOf(model.config(), id.role),
              [&](std::size_t first_row, std::span<const float> rows, unsigned i) {
                const std::size_t n = rows.size() / x.n_columns;
                std::vector<float>& product = workers[i].product;
                product.resize(x.n_rows * n);
                MultiplyByRows(x.values.data(), x.n_rows, x.n_columns, rows.data(), n,
                               product.data(), n);
                for (std::size_t t = 0; t < x.n_rows; ++t)
                  Add(hidden.Row(t).data() + first_row, &product[t * n], n);
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
