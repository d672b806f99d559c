// A text on its way through a model, product by product: of all tokens the hidden state stands, and
// the input of the product whose turn it is.
//
// A weight must be readable when Next moves on behind it, not before. So one stream runs through
// the unquantized model, and serves every output; an output that is to make up for its own errors
// has a second one beside it, through the weights that are written so far.
//
// Of a layer with experts there stands what goes into all of them, and which tokens each is used
// for; what is inside of one is computed when it is asked for. An expert that few tokens reach is
// run on all of them, for the sake of its statistics alone. Beside another stream, of the tokens
// that reach an expert only those count that do so in both.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "calibrate/input_statistics.h"
#include "calibrate/inputs.h"
#include "engine/forward.h"
#include "io/scratch_file.h"
#include "stored/stored_model.h"

namespace phiq::calibrate {

// Floats that are written and read a piece at a time: in memory, or on a disk.
class FloatStore {
 public:
  explicit FloatStore(std::uint64_t n_floats) : memory_(n_floats) {}
  explicit FloatStore(ScratchFile file) : own_(std::move(file)) {}
  // That of somebody else, which must outlive this.
  explicit FloatStore(ScratchFile* file) : kept_(file) {}

  void Write(std::uint64_t first, std::span<const float> values);
  void Read(std::uint64_t first, std::span<float> values) const;

 private:
  ScratchFile* file() { return own_ ? &*own_ : kept_; }
  const ScratchFile* file() const { return own_ ? &*own_ : kept_; }

  std::vector<float> memory_;
  std::optional<ScratchFile> own_;
  ScratchFile* kept_ = nullptr;
};

class TextStream {
 public:
  // Windows of `n_ctx` tokens, one after the other; those held back are run, not summed.
  // `model`, and the ids, must outlive this.
  // `store`   of StateFloats.
  // `keeps`   what stands at one input is there until Next has come to the one after the next: a
  //           run that is interrupted in between can Resume.
  // Throws    what ForwardModel throws.
  TextStream(const StoredModel& model, std::uint32_t n_ctx, std::span<const std::uint32_t> windows,
             std::span<const std::uint32_t> held_back, engine::Runner runner, FloatStore store,
             bool keeps = false);

  // How much is wanted of a weight's input. The numbers of tokens are the stream's.
  using WantedFn = std::function<InputStatistics::Wanted(const MatrixInput&)>;

  // Moves on to the next of InputsOf.
  // Throws    kNumeric: naming the layer, and the input where it is one that is not finite.
  InputStatistics Next(const WantedFn& wanted);
  // The same with what this input lacks of the other stream's, which stands at the same matrix.
  InputStatistics NextBeside(const TextStream& plain, const WantedFn& wanted);
  // Moves on without a look.
  void Skip();
  // Before the first input again.
  void Restart() { Resume(0); }
  // At the n-th input, which an earlier stream over the same store has left; 0: before the first.
  void Resume(std::size_t n);

  // Where in the store that stands which a stream begins with that Resumes here, in floats. Nothing
  // before the first input.
  struct Range {
    std::uint64_t first = 0, n = 0;
  };
  std::vector<Range> Standing() const;

  const std::vector<MatrixInput>& inputs() const noexcept { return inputs_; }
  // How many of them Next has come to.
  std::size_t n_reached() const noexcept { return n_reached_; }
  // The last of these; nullptr: before the first Next.
  const MatrixInput* at() const noexcept {
    return n_reached_ == 0 ? nullptr : &inputs_[n_reached_ - 1];
  }
  const ModelConfig& config() const noexcept { return model_.config(); }
  std::size_t n_tokens() const noexcept { return windows_.size(); }
  std::size_t n_held_back() const noexcept { return held_back_.size(); }

  // What stands of so many tokens.
  static std::uint64_t StateFloats(const ModelConfig& config, std::uint64_t n_tokens,
                                   bool keeps = false);
  // Bytes of what Next holds besides while it runs (without what it returns).
  static std::uint64_t WorkBytes(const ModelConfig& config, std::uint32_t n_ctx, unsigned threads);

 private:
  struct Batch {
    std::span<const std::uint32_t> ids;
    std::uint64_t first_token = 0;  // of all, those held back behind the others
    bool is_held_back = false;
  };
  using BatchFn = std::function<void(const Batch& batch, const engine::Matrix& x)>;

  // To the next input that stands in the store.
  void Advance(const BatchFn& use);
  // Whether the next input comes from what stands already.
  bool StandsAtNext() const;
  InputStatistics Take(const TextStream* plain, const WantedFn& wanted);
  InputStatistics TakeOfExpert(const TextStream* plain, const WantedFn& wanted);
  // The weight by which the engine calls what stands at an input.
  static WeightId StepOf(const MatrixInput& input) noexcept;
  const Experts& ExpertsOf(std::int32_t layer) const;
  // Of an expert's input the vectors of some tokens.
  void ReadOfExpert(engine::ForwardPass& pass, std::span<const std::uint32_t> tokens,
                    engine::Matrix& x) const;
  void FindRoutes();
  // Of the tokens that reach the expert whose input it is: those that do so in `plain`, too.
  std::vector<std::uint32_t> TokensOfExpert(const TextStream* plain) const;
  void MoveOn();

  // Of the place that is read, or of that which is written: the same, unless both are kept.
  enum class Place { kRead, kWritten };
  std::uint64_t HiddenAt(const Batch& batch, Place place) const;
  std::uint64_t InputAt(const Batch& batch, Place place) const;
  const Batch& BatchOf(std::uint64_t token) const;

  engine::ForwardModel model_;
  engine::Runner runner_;
  std::span<const std::uint32_t> windows_, held_back_;
  std::vector<Batch> batches_;
  std::vector<MatrixInput> inputs_;
  std::uint64_t widest_;  // columns of one that stands in the store
  // [tokens, hidden_size], then [tokens, columns of the input]; where both are kept, twice each.
  FloatStore store_;
  bool keeps_;
  std::size_t n_reached_ = 0;  // of inputs_
  // At a layer's experts: of each of them its tokens, in their order.
  std::vector<std::vector<std::uint32_t>> routes_;
  // Which of the two places holds what stands.
  std::size_t hidden_place_ = 0, input_place_ = 0;
};

}  // namespace phiq::calibrate
