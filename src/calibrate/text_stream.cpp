// Batches of windows are of one fixed size, whatever the memory and the threads: sums over tokens
// begin anew with each.
#include "calibrate/text_stream.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "model/weights.h"

namespace phiq::calibrate {
namespace {

using engine::Matrix;

constexpr WeightId kHead = {TensorRole::kOutputHead};

// Decoding a layer costs little beside its products with so many tokens.
constexpr std::size_t kBatchTokens = 1024;

std::size_t TokensOfBatch(std::uint32_t n_ctx) {
  return std::max<std::size_t>(1, kBatchTokens / n_ctx) * n_ctx;
}

// Columns of the widest input.
std::uint64_t WidestInput(const ModelConfig& config) {
  std::uint64_t widest = 0;
  for (const WeightInfo& weight : WeightsOf(config))
    if (!StaysFloat(weight.id.role)) widest = std::max(widest, weight.shape.row_elements);
  return widest;
}

}  // namespace

void FloatStore::Write(std::uint64_t first, std::span<const float> values) {
  if (ScratchFile* const on_disk = file()) {
    on_disk->WriteAt(first * sizeof(float), std::as_bytes(values));
  } else {
    std::ranges::copy(values, memory_.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

void FloatStore::Read(std::uint64_t first, std::span<float> values) const {
  if (const ScratchFile* const on_disk = file()) {
    on_disk->ReadAt(first * sizeof(float), std::as_writable_bytes(values));
  } else {
    std::ranges::copy(std::span(memory_).subspan(first, values.size()), values.begin());
  }
}

TextStream::TextStream(const StoredModel& model, std::uint32_t n_ctx,
                       std::span<const std::uint32_t> windows,
                       std::span<const std::uint32_t> held_back, engine::Runner runner,
                       FloatStore store, bool keeps)
    : model_(model, n_ctx),
      runner_(std::move(runner)),
      windows_(windows),
      held_back_(held_back),
      store_(std::move(store)),
      keeps_(keeps) {
  const std::size_t step = TokensOfBatch(n_ctx);
  const auto cut = [&](std::span<const std::uint32_t> ids, std::uint64_t n_before,
                       bool is_held_back) {
    for (std::size_t first = 0; first < ids.size(); first += step)
      batches_.push_back(
          {ids.subspan(first, std::min(step, ids.size() - first)), n_before + first, is_held_back});
  };
  cut(windows, 0, false);
  cut(held_back, windows.size(), true);
}

std::uint64_t TextStream::HiddenAt(const Batch& batch, Place place) const {
  const std::size_t other = keeps_ && place == Place::kWritten ? 1 : 0;
  const std::uint64_t n_all = n_tokens() + n_held_back();
  return ((hidden_place_ ^ other) * n_all + batch.first_token) * config().hidden_size;
}

std::uint64_t TextStream::InputAt(const Batch& batch, Place place) const {
  const std::size_t other = keeps_ && place == Place::kWritten ? 1 : 0;
  const std::uint64_t n_all = n_tokens() + n_held_back();
  return (keeps_ ? 2 : 1) * n_all * config().hidden_size +
         ((input_place_ ^ other) * n_all + batch.first_token) * WidestInput(config());
}

WeightId TextStream::After(const std::optional<WeightId>& at) const {
  if (!at) return {TensorRole::kAttentionQkv, 0};
  if (const auto next = engine::ForwardPass::NextMatrix(*at)) return *next;
  const std::int32_t layer = at->layer + 1;
  return layer < static_cast<std::int32_t>(config().n_layers)
             ? WeightId{TensorRole::kAttentionQkv, layer}
             : kHead;
}

void TextStream::MoveTo(WeightId next) {
  if (keeps_) {
    if (!at_ || engine::ForwardPass::MovesHidden(*at_)) hidden_place_ ^= 1;
    input_place_ ^= 1;
  }
  at_ = next;
}

void TextStream::Resume(std::size_t n) {
  at_.reset();
  hidden_place_ = input_place_ = 0;
  for (std::size_t i = 0; i < n; ++i) MoveTo(After(at_));
}

void TextStream::ReadInput(const Batch& batch, std::size_t n_columns, Matrix& x) const {
  x.Resize(batch.ids.size(), n_columns);
  store_.Read(InputAt(batch, Place::kRead), x.values);
}

void TextStream::Advance(const BatchFn& use) {
  assert(at_ != kHead);
  engine::ForwardPass pass(runner_);  // its buffers are gone when the statistics are used
  const WeightId next = After(at_);
  Matrix hidden, x;
  for (const Batch& batch : batches_) {
    bool moves_hidden = true;
    if (!at_) {
      pass.Embed(model_, batch.ids, hidden);
      pass.StartLayer(model_, 0, hidden, x);
    } else {
      moves_hidden = engine::ForwardPass::MovesHidden(*at_);
      if (moves_hidden) {
        hidden.Resize(batch.ids.size(), config().hidden_size);
        store_.Read(HiddenAt(batch, Place::kRead), hidden.values);
      }
      ReadInput(batch, ShapeOf(config(), at_->role).row_elements, x);
      if (!pass.Step(model_, *at_, hidden, x)) {
        if (next == kHead) {
          std::vector<std::size_t> positions(hidden.n_rows);
          std::iota(positions.begin(), positions.end(), std::size_t{0});
          pass.NormalizeOutput(model_, hidden, positions, x);
        } else {
          pass.StartLayer(model_, next.layer, hidden, x);
        }
      }
    }
    if (moves_hidden) store_.Write(HiddenAt(batch, Place::kWritten), hidden.values);
    store_.Write(InputAt(batch, Place::kWritten), x.values);
    if (use) use(batch, next, x);
  }
  MoveTo(next);
}

InputStatistics TextStream::Take(const TextStream* plain, const WantedFn& wanted) {
  std::optional<InputStatistics> input;
  Matrix lacks;
  Advance([&](const Batch& batch, WeightId weight, const Matrix& x) {
    if (!input) {
      InputStatistics::Wanted counted = wanted(weight);
      counted.n_tokens = n_tokens();
      counted.n_held_back = n_held_back();
      counted.lacks = plain != nullptr;
      input.emplace(weight, x.n_columns, counted);
    }
    if (plain != nullptr) {
      assert(plain->at_ == weight);
      plain->ReadInput(batch, x.n_columns, lacks);
      for (std::size_t i = 0; i < x.values.size(); ++i) lacks.values[i] -= x.values[i];
    }
    const Matrix* const beside = plain != nullptr ? &lacks : nullptr;
    if (batch.is_held_back) {
      input->AddHeldBack(x, beside);
    } else {
      input->Add(runner_, x, beside);
    }
  });
  input->Finish();
  return std::move(*input);
}

InputStatistics TextStream::Next(const WantedFn& wanted) { return Take(nullptr, wanted); }

InputStatistics TextStream::NextBeside(const TextStream& plain, const WantedFn& wanted) {
  return Take(&plain, wanted);
}

void TextStream::Skip() { Advance({}); }

std::uint64_t TextStream::StateFloats(const ModelConfig& config, std::uint64_t n_tokens,
                                      bool keeps) {
  return (keeps ? 2 : 1) * n_tokens * (config.hidden_size + WidestInput(config));
}

std::uint64_t TextStream::WorkBytes(const ModelConfig& config, std::uint32_t n_ctx,
                                    unsigned threads) {
  const std::uint64_t n_batch = TokensOfBatch(n_ctx);
  const std::uint64_t widest = WidestInput(config);
  // Of each thread: rows of a weight, two products with them (gate and up), a panel of tokens.
  const std::uint64_t of_thread =
      engine::kTileRows * widest + 2 * n_batch * engine::kTileRows + (1ULL << 18);
  // Step's three buffers, and what the input lacks.
  const std::uint64_t of_token =
      config.hidden_size + 3 * engine::ForwardPass::WidestFloats(config) + widest;
  return (n_batch * of_token + threads * of_thread) * sizeof(float);
}

}  // namespace phiq::calibrate
