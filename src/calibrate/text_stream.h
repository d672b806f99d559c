// A text on its way through the unquantized model, layer by layer: hidden states of all tokens
// stay, what a layer's products are given is looked at and dropped.
//
// One stream serves every output of a run. An output that is to make up for its own errors needs a
// stream of its own beside it, over the weights that are written so far.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "calibrate/input_statistics.h"
#include "engine/forward.h"
#include "stored/stored_model.h"

namespace phiq::calibrate {

class TextStream {
 public:
  // Windows of `n_ctx` tokens, one after the other; those held back are run, not summed. `model`
  // must outlive this.
  // Throws   what ForwardModel throws.
  TextStream(const StoredModel& model, std::uint32_t n_ctx, std::span<const std::uint32_t> windows,
             std::span<const std::uint32_t> held_back, engine::Runner runner);

  // How much is wanted of a weight's input.
  using WantedFn = std::function<InputStatistics::Wanted(WeightId)>;

  // Moves on behind the layer. Layers are run in their order, each once.
  // Returns   the statistics of its matrices' inputs, in the order of the products.
  // Throws    kNumeric: naming the layer, and the input where it is one that is not finite.
  std::vector<InputStatistics> RunLayer(std::int32_t layer, const WantedFn& wanted);
  // What the head is multiplied with. After all layers; the hidden states are gone then.
  InputStatistics RunHead(const WantedFn& wanted);

  const ModelConfig& config() const noexcept { return model_.config(); }
  std::size_t n_tokens() const noexcept { return n_tokens_; }
  std::size_t n_held_back() const noexcept { return n_held_back_; }

  // Bytes of hidden states, and of what RunLayer holds besides while it runs (without what it
  // returns).
  static std::uint64_t StateBytes(const ModelConfig& config, std::size_t n_tokens);
  static std::uint64_t WorkBytes(const ModelConfig& config, std::uint32_t n_ctx, unsigned threads);

 private:
  // Calls use(hidden, is_held_back) for each batch of windows.
  void ForEachBatch(const std::function<void(engine::Matrix& hidden, bool is_held_back)>& use);

  engine::ForwardModel model_;
  engine::Runner runner_;
  std::size_t n_tokens_ = 0, n_held_back_ = 0;
  std::vector<engine::Matrix> hidden_;  // of batches of windows
  std::size_t n_summed_batches_ = 0;    // those behind them are held back
};

}  // namespace phiq::calibrate
