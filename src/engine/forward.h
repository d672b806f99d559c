// The forward pass in float32, for evaluation: many texts of one length at once, layer by layer, so
// that each weight is read and decoded once for all of them.
//
//   h = embedding[ids]
//   each layer:  h += attention(norm(h)); h += mlp(norm(h))   as model/architecture.h has them
//   logits = head(norm(h))
//
// Memory is what the activations of a batch take and a few hundred rows of one weight a thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/parallel.h"
#include "model/architecture.h"
#include "stored/stored_model.h"

namespace phiq::engine {

// Rows of floats, one behind the other.
struct Matrix {
  std::size_t n_rows = 0, n_columns = 0;
  std::vector<float> values;

  void Resize(std::size_t rows, std::size_t columns);  // contents are lost
  std::span<float> Row(std::size_t r) {
    return std::span(values).subspan(r * n_columns, n_columns);
  }
  std::span<const float> Row(std::size_t r) const {
    return std::span(values).subspan(r * n_columns, n_columns);
  }
};

// Threads, and what they are interrupted by.
struct Runner {
  unsigned threads = 1;
  ParallelHooks hooks = {};

  void ForEach(std::size_t n_items,
               const std::function<void(std::size_t item, unsigned worker)>& work) const {
    ParallelChunks(threads, n_items, work, hooks);
  }
};

// Rows of a weight that a thread decodes at once. Fixed, since sums in another blocking round
// differently: results must not depend on the number of threads.
inline constexpr std::size_t kTileRows = 256;

// Rows of a weight: all of them, or those of one expert.
struct WeightRows {
  WeightId id;
  std::size_t first_row = 0, n_rows = 0;
  std::size_t row_elements = 0;
};

// Calls use(first_row, rows, worker) for each tile, on all threads; rows are counted from the
// first. Shapes    rows: [at most kTileRows, row_elements], finite.
void ForEachTile(const Runner& runner, const WeightIndex& weights, const WeightRows& of,
                 const std::function<void(std::size_t first_row, std::span<const float> rows,
                                          unsigned worker)>& use);
// Of a whole weight of that shape.
void ForEachTile(const Runner& runner, const WeightIndex& weights, WeightId id,
                 const WeightShape& shape,
                 const std::function<void(std::size_t first_row, std::span<const float> rows,
                                          unsigned worker)>& use);

// A model ready to run on texts of `n_ctx` tokens.
class ForwardModel {
 public:
  // `model` must outlive this. Throws what WeightIndex and ReadRotary throw.
  ForwardModel(const StoredModel& model, std::uint32_t n_ctx);

  const std::string& path() const noexcept { return model_.path(); }
  const ModelConfig& config() const noexcept { return model_.config(); }
  const WeightIndex& weights() const noexcept { return weights_; }
  const Network& network() const noexcept { return network_; }
  std::size_t n_ctx() const noexcept { return cosines_.n_rows; }
  // [n_ctx, rope_dim / 2]
  const Matrix& cosines() const noexcept { return cosines_; }
  const Matrix& sines() const noexcept { return sines_; }
  // What is added to the logits, [vocab_size]; empty: nothing.
  std::span<const float> head_bias() const noexcept { return head_bias_; }
  // A norm or a bias.
  std::vector<float> ReadVector(WeightId id) const;

 private:
  const StoredModel& model_;
  WeightIndex weights_;
  Network network_;
  Matrix cosines_, sines_;
  std::vector<float> head_bias_;
};

// Sees what a weight of a layer is about to be multiplied with; of each expert the tokens that it
// gets.
// Shapes    input: [tokens, row elements of the weight]
using Tap = std::function<void(WeightId weight, const Matrix& input)>;

// A token that an expert is used for, and how much of what it makes of it.
struct ExpertUse {
  std::size_t token = 0;
  float weight = 0;
};

// Keys and values of texts that are run position by position, all at the same one.
struct KeyValues {
  // Of each layer: rows of [n_texts * n_ctx, keys and values], text behind text.
  std::vector<Matrix> layers;
  std::size_t position = 0;  // that comes next

  KeyValues(const ForwardModel& model, std::size_t n_texts);
  static std::uint64_t Bytes(const ModelConfig& config, std::size_t n_texts, std::uint32_t n_ctx);
};

// Runs models; owns the activations that they can share.
class ForwardPass {
 public:
  explicit ForwardPass(Runner runner) : runner_(std::move(runner)) {}

  // hidden = the embedding's rows of the ids: windows of n_ctx tokens, one after the other.
  void Embed(const ForwardModel& model, std::span<const std::uint32_t> ids, Matrix& hidden);
  // `tap` is called for every matrix of the layer, in the order of the products.
  // Throws   kNumeric: the hidden state is not finite behind this layer.
  void RunLayer(const ForwardModel& model, std::int32_t layer, Matrix& hidden, const Tap& tap = {});
  // The same for one position of each text: hidden has a row for each, and `past` what stands
  // before it. The bits are those of whole windows where the model attends to all of them. The
  // caller moves past.position on behind the last layer.
  void RunLayer(const ForwardModel& model, std::int32_t layer, KeyValues& past, Matrix& hidden);
  // A layer product by product, for who has to see an input of all texts before the weights that it
  // is multiplied with are known. The bits are those of RunLayer. An input that several weights
  // share (queries, keys and values; what goes into all experts) is called by the first of them.
  //
  // x = the input of the layer's first matrix.
  void StartLayer(const ForwardModel& model, std::int32_t layer, const Matrix& hidden, Matrix& x);
  // x, the input of `weight`, is multiplied with it and those that share it, and becomes the input
  // of the layer's next matrix. Experts are one step, from their input to what is behind the layer,
  // where x is of no use.
  // Throws    kNumeric: the hidden state is not finite behind this layer.
  void Step(const ForwardModel& model, WeightId weight, Matrix& hidden, Matrix& x);
  // Whether Step changes hidden; and whether that is all that it does, the layer's last.
  static bool MovesHidden(WeightId weight) noexcept;
  static bool EndsLayer(WeightId weight) noexcept;
  // The tokens that each expert of a layer is used for.
  // Shapes    x: [tokens, hidden_size], the experts' input.
  std::vector<std::vector<ExpertUse>> Route(const ForwardModel& model, const Experts& experts,
                                            std::int32_t layer, const Matrix& x);
  // inner = what an expert multiplies its down matrix with, of each row of x.
  void RunExpertInside(const ForwardModel& model, const Experts& experts, std::int32_t layer,
                       std::uint32_t expert, const Matrix& x, Matrix& inner);
  // out = the output norm of the hidden state's rows at `positions`: what the head multiplies.
  void NormalizeOutput(const ForwardModel& model, const Matrix& hidden,
                       std::span<const std::size_t> positions, Matrix& out) const;

  const Runner& runner() const noexcept { return runner_; }
  // Floats of activations for each token, those of the hidden state not counted.
  static std::size_t ScratchFloats(const ModelConfig& config);
  // Of the widest of them: Step has three of that width.
  static std::size_t WidestFloats(const ModelConfig& config);

 private:
  void Normalize(const ForwardModel& model, const NormSpec& norm, WeightId id, WeightId bias,
                 const Matrix& hidden);
  void MultiplyQueriesKeysValues(const ForwardModel& model, const AttentionSpec& spec,
                                 std::int32_t layer, const Tap& tap);
  // out = x * transposed(weight): columns of `out` from first_column on, which has all of them.
  void Multiply(const ForwardModel& model, WeightId id, const Matrix& x, Matrix& out,
                std::size_t first_column = 0) const;
  // hidden += what the output of attention makes of input_
  void AddAttention(const ForwardModel& model, const AttentionSpec& spec, std::int32_t layer,
                    Matrix& hidden) const;
  void AddMlp(const ForwardModel& model, const GatedMlp& mlp, std::int32_t layer, Matrix& hidden,
              const Tap& tap);
  void AddMlp(const ForwardModel& model, const Experts& experts, std::int32_t layer, Matrix& hidden,
              const Tap& tap);
  void MultiplyGateUp(const ForwardModel& model, WeightId gate_up);
  void MultiplyGateUp(const ForwardModel& model, const WeightRows& gate, const WeightRows& up,
                      const Matrix& x);
  void MultiplyGateUp(const ForwardModel& model, const Experts& experts, std::int32_t layer,
                      std::uint32_t expert, const Matrix& x);
  // hidden += x * transposed(weight)
  void AddProduct(const ForwardModel& model, WeightId id, const Matrix& x, Matrix& hidden) const;
  // use(token, first_row, product): some elements of x * transposed(weight).
  void ForEachProduct(const ForwardModel& model, const WeightRows& of, const Matrix& x,
                      const std::function<void(std::size_t token, std::size_t first_row,
                                               std::span<const float> product)>& use) const;
  void RequireFinite(const Matrix& hidden, std::int32_t layer) const;
  void ForEachRow(std::size_t n_rows, const std::function<void(std::size_t row)>& use) const;
  // attend() makes input_ of wide_: queries, keys and values.
  void RunLayerAround(const ForwardModel& model, std::int32_t layer,
                      const std::function<void()>& attend, Matrix& hidden, const Tap& tap);
  // Row t of wide_ is of the position position_of(t).
  void RotateQueriesAndKeys(const ForwardModel& model, const AttentionSpec& spec,
                            const std::function<std::size_t(std::size_t t)>& position_of);
  void Attend(const ForwardModel& model, const AttentionSpec& spec);
  void AttendPast(const ForwardModel& model, const AttentionSpec& spec, const KeyValues& past,
                  Matrix& keys_and_values);

  Runner runner_;
  Matrix input_;   // of a product: normalized or attended
  Matrix wide_;    // query, key and value; gated
  Matrix scores_;  // of the experts, for each token
  Matrix chosen_;  // the tokens of one expert
};

}  // namespace phiq::engine
