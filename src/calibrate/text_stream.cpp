// Batches of windows are of one fixed size, whatever the memory and the threads: sums over tokens
// begin anew with each.
#include "calibrate/text_stream.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "model/weights.h"

namespace phiq::calibrate {
namespace {

using engine::Matrix;

// Decoding a layer costs little beside its products with so many tokens.
constexpr std::size_t kBatchTokens = 1024;

std::size_t TokensOfBatch(std::uint32_t n_ctx) {
  return std::max<std::size_t>(1, kBatchTokens / n_ctx) * n_ctx;
}

}  // namespace

TextStream::TextStream(const StoredModel& model, std::uint32_t n_ctx,
                       std::span<const std::uint32_t> windows,
                       std::span<const std::uint32_t> held_back, engine::Runner runner)
    : model_(model, n_ctx),
      runner_(std::move(runner)),
      n_tokens_(windows.size()),
      n_held_back_(held_back.size()) {
  engine::ForwardPass pass(runner_);
  const auto embed = [&](std::span<const std::uint32_t> ids) {
    const std::size_t step = TokensOfBatch(n_ctx);
    for (std::size_t first = 0; first < ids.size(); first += step)
      pass.Embed(model_, ids.subspan(first, std::min(step, ids.size() - first)),
                 hidden_.emplace_back());
  };
  embed(windows);
  n_summed_batches_ = hidden_.size();
  embed(held_back);
}

void TextStream::ForEachBatch(const std::function<void(Matrix&, bool)>& use) {
  for (std::size_t i = 0; i < hidden_.size(); ++i) use(hidden_[i], i >= n_summed_batches_);
}

std::vector<InputStatistics> TextStream::RunLayer(std::int32_t layer, const WantedFn& wanted) {
  std::vector<InputStatistics> inputs;
  engine::ForwardPass pass(runner_);  // its buffers are gone when the statistics are used
  ForEachBatch([&](Matrix& hidden, bool is_held_back) {
    pass.RunLayer(model_, layer, hidden, [&](WeightId weight, const Matrix& x) {
      auto input = std::ranges::find(inputs, weight, &InputStatistics::weight);
      if (input == inputs.end()) {
        inputs.emplace_back(weight, x.n_columns, wanted(weight));
        input = inputs.end() - 1;
      }
      if (is_held_back) {
        input->AddHeldBack(x);
      } else {
        input->Add(runner_, x);
      }
    });
  });
  for (InputStatistics& input : inputs) input.Finish();
  return inputs;
}

InputStatistics TextStream::RunHead(const WantedFn& wanted) {
  constexpr WeightId kHead = {TensorRole::kOutputHead};
  InputStatistics input(kHead, config().hidden_size, wanted(kHead));
  const engine::ForwardPass pass(runner_);
  ForEachBatch([&](Matrix& hidden, bool is_held_back) {
    std::vector<std::size_t> positions(hidden.n_rows);
    std::iota(positions.begin(), positions.end(), std::size_t{0});
    Matrix x;
    pass.NormalizeOutput(model_, hidden, positions, x);
    hidden = {};
    if (is_held_back) {
      input.AddHeldBack(x);
    } else {
      input.Add(runner_, x);
    }
  });
  input.Finish();
  return input;
}

std::uint64_t TextStream::StateBytes(const ModelConfig& config, std::size_t n_tokens) {
  return std::uint64_t{n_tokens} * config.hidden_size * sizeof(float);
}

std::uint64_t TextStream::WorkBytes(const ModelConfig& config, std::uint32_t n_ctx,
                                    unsigned threads) {
  const std::uint64_t n_batch = TokensOfBatch(n_ctx);
  std::uint64_t widest = 0;
  for (const WeightInfo& weight : WeightsOf(config))
    if (!StaysFloat(weight.id.role)) widest = std::max(widest, weight.shape.row_elements);
  // Of each thread: rows of a weight, two products with them (gate and up), a panel of tokens.
  const std::uint64_t of_thread =
      engine::kTileRows * widest + 2 * n_batch * engine::kTileRows + (1ULL << 18);
  return (n_batch * engine::ForwardPass::ScratchFloats(config) + threads * of_thread) *
         sizeof(float);
}

}  // namespace phiq::calibrate
