// Batches of windows are of one fixed size, whatever the memory and the threads: sums over tokens
// begin anew with each.
#include "calibrate/text_stream.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <numeric>
#include <utility>
#include <variant>

#include "calibrate/text.h"
#include "model/weights.h"

namespace phiq::calibrate {
namespace {

using engine::Matrix;

// Decoding a layer costs little beside its products with so many tokens.
constexpr std::size_t kBatchTokens = 1024;

std::size_t TokensOfBatch(std::uint32_t n_ctx) {
  return std::max<std::size_t>(1, kBatchTokens / n_ctx) * n_ctx;
}

bool Stands(const MatrixInput& input) {
  return !input.is_of_expert() ||
         (input.weight.expert == 0 && input.weight.role == TensorRole::kExpertGate);
}

// Columns of the widest input that `counts`.
std::uint64_t WidestInput(const ModelConfig& config, bool (*counts)(const MatrixInput&)) {
  std::uint64_t widest = 0;
  for (const MatrixInput& input : InputsOf(config))
    if (counts(input)) widest = std::max<std::uint64_t>(widest, input.n_columns);
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
      inputs_(InputsOf(model.config())),
      widest_(WidestInput(model.config(), Stands)),
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
         ((input_place_ ^ other) * n_all + batch.first_token) * widest_;
}

const TextStream::Batch& TextStream::BatchOf(std::uint64_t token) const {
  const auto behind = std::ranges::upper_bound(batches_, token, {}, &Batch::first_token);
  return *std::prev(behind);
}

WeightId TextStream::StepOf(const MatrixInput& input) noexcept {
  return input.is_of_expert() ? WeightId{TensorRole::kExpertGate, input.weight.layer}
                              : input.weight;
}

const Experts& TextStream::ExpertsOf(std::int32_t layer) const {
  return std::get<Experts>(model_.network().layers[static_cast<std::size_t>(layer)].mlp);
}

bool TextStream::StandsAtNext() const {
  assert(n_reached_ < inputs_.size());
  return !Stands(inputs_[n_reached_]);
}

void TextStream::MoveOn() {
  if (keeps_ && !StandsAtNext()) {
    if (at() == nullptr || engine::ForwardPass::MovesHidden(StepOf(*at()))) hidden_place_ ^= 1;
    input_place_ ^= 1;
  }
  ++n_reached_;
}

void TextStream::Resume(std::size_t n) {
  n_reached_ = 0;
  hidden_place_ = input_place_ = 0;
  while (n_reached_ < n) MoveOn();
  if (n > 0 && at()->is_of_expert()) FindRoutes();
}

std::vector<TextStream::Range> TextStream::Standing() const {
  if (at() == nullptr) return {};
  const std::uint64_t n_all = n_tokens() + n_held_back();
  const Batch first{};
  return {{HiddenAt(first, Place::kRead), n_all * config().hidden_size},
          {InputAt(first, Place::kRead), n_all * widest_}};
}

void TextStream::Advance(const BatchFn& use) {
  engine::ForwardPass pass(runner_);  // its buffers are gone when the statistics are used
  const MatrixInput* const before = at();
  const MatrixInput& next = inputs_[n_reached_];
  Matrix hidden, x;
  for (const Batch& batch : batches_) {
    bool moves_hidden = true, ends_layer = true;
    if (before == nullptr) {
      pass.Embed(model_, batch.ids, hidden);
    } else {
      const WeightId step = StepOf(*before);
      moves_hidden = engine::ForwardPass::MovesHidden(step);
      ends_layer = engine::ForwardPass::EndsLayer(step);
      if (moves_hidden) {
        hidden.Resize(batch.ids.size(), config().hidden_size);
        store_.Read(HiddenAt(batch, Place::kRead), hidden.values);
      }
      x.Resize(batch.ids.size(), ShapeOf(config(), step.role).row_elements);
      store_.Read(InputAt(batch, Place::kRead), x.values);
      pass.Step(model_, step, hidden, x);
    }
    if (ends_layer && next.weight.layer >= 0) pass.StartLayer(model_, next.weight.layer, hidden, x);
    if (ends_layer && next.weight.layer < 0) {
      std::vector<std::size_t> positions(hidden.n_rows);
      std::iota(positions.begin(), positions.end(), std::size_t{0});
      pass.NormalizeOutput(model_, hidden, positions, x);
    }
    if (moves_hidden) store_.Write(HiddenAt(batch, Place::kWritten), hidden.values);
    store_.Write(InputAt(batch, Place::kWritten), x.values);
    if (use) use(batch, x);
  }
  MoveOn();
  if (at()->is_of_expert()) FindRoutes();
}

void TextStream::FindRoutes() {
  engine::ForwardPass pass(runner_);
  const std::int32_t layer = at()->weight.layer;
  const Experts& experts = ExpertsOf(layer);
  routes_.assign(experts.n_experts, {});
  Matrix x;
  for (const Batch& batch : batches_) {
    x.Resize(batch.ids.size(), config().hidden_size);
    store_.Read(InputAt(batch, Place::kRead), x.values);
    const auto uses = pass.Route(model_, experts, layer, x);
    for (std::size_t e = 0; e < uses.size(); ++e)
      for (const engine::ExpertUse& use : uses[e])
        routes_[e].push_back(static_cast<std::uint32_t>(batch.first_token + use.token));
  }
}

std::vector<std::uint32_t> TextStream::TokensOfExpert(const TextStream* plain) const {
  const auto expert = static_cast<std::size_t>(at()->weight.expert);
  if (plain == nullptr) return routes_[expert];
  std::vector<std::uint32_t> both;
  std::ranges::set_intersection(routes_[expert], plain->routes_[expert], std::back_inserter(both));
  return both;
}

void TextStream::ReadOfExpert(engine::ForwardPass& pass, std::span<const std::uint32_t> tokens,
                              Matrix& x) const {
  const WeightId weight = at()->weight;
  x.Resize(tokens.size(), config().hidden_size);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Batch& batch = BatchOf(tokens[i]);
    store_.Read(
        InputAt(batch, Place::kRead) + (tokens[i] - batch.first_token) * config().hidden_size,
        x.Row(i));
  }
  if (weight.role == TensorRole::kExpertGate) return;
  Matrix inner;
  pass.RunExpertInside(model_, ExpertsOf(weight.layer), weight.layer,
                       static_cast<std::uint32_t>(weight.expert), x, inner);
  std::swap(inner, x);
}

InputStatistics TextStream::TakeOfExpert(const TextStream* plain, const WantedFn& wanted) {
  engine::ForwardPass pass(runner_);
  const std::vector<std::uint32_t> reached = TokensOfExpert(plain);
  const auto split = std::ranges::lower_bound(reached, n_tokens());
  const std::span<const std::uint32_t> own(reached.begin(), split);
  std::span<const std::uint32_t> summed = own, held_back(split, reached.end());
  std::vector<std::uint32_t> all(n_tokens() + n_held_back());
  std::iota(all.begin(), all.end(), 0U);
  const bool is_rare = own.size() < kLeastTokensOfExpert;
  if (is_rare) summed = std::span(all).first(n_tokens());
  if (is_rare || held_back.empty()) held_back = std::span(all).subspan(n_tokens());

  InputStatistics::Wanted counted = wanted(*at());
  counted.n_tokens = summed.size();
  counted.n_held_back = held_back.size();
  counted.lacks = plain != nullptr;
  InputStatistics input(at()->weight, at()->n_columns, counted);
  Matrix x, lacks;
  const auto for_each = [&](std::span<const std::uint32_t> tokens, const auto& use) {
    for (std::size_t first = 0; first < tokens.size(); first += kBatchTokens) {
      const auto some = tokens.subspan(first, std::min(kBatchTokens, tokens.size() - first));
      ReadOfExpert(pass, some, x);
      if (plain != nullptr) {
        plain->ReadOfExpert(pass, some, lacks);
        for (std::size_t i = 0; i < x.values.size(); ++i) lacks.values[i] -= x.values[i];
      }
      use(plain != nullptr ? &lacks : nullptr);
    }
  };
  for_each(summed, [&](const Matrix* beside) { input.Add(runner_, x, beside); });
  for_each(held_back, [&](const Matrix* beside) { input.AddHeldBack(x, beside); });
  if (is_rare && plain == nullptr) {
    InputStatistics sums(at()->weight, at()->n_columns,
                         {Needs::kSquares, kWidestBlock, own.size(), 0});
    for_each(own, [&](const Matrix*) { sums.Add(runner_, x); });
    input.CountReached(sums.Sums());
  }
  input.Finish();
  return input;
}

InputStatistics TextStream::Take(const TextStream* plain, const WantedFn& wanted) {
  assert(n_reached_ < inputs_.size());
  if (inputs_[n_reached_].is_of_expert()) {
    Skip();
    return TakeOfExpert(plain, wanted);
  }
  std::optional<InputStatistics> input;
  const MatrixInput& next = inputs_[n_reached_];
  Matrix lacks;
  Advance([&](const Batch& batch, const Matrix& x) {
    if (!input) {
      InputStatistics::Wanted counted = wanted(next);
      counted.n_tokens = n_tokens();
      counted.n_held_back = n_held_back();
      counted.lacks = plain != nullptr;
      input.emplace(next.weight, x.n_columns, counted);
    }
    if (plain != nullptr) {
      assert(plain->at() != nullptr && plain->at()->weight == next.weight);
      lacks.Resize(x.n_rows, x.n_columns);
      plain->store_.Read(plain->InputAt(batch, Place::kRead), lacks.values);
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

void TextStream::Skip() {
  if (StandsAtNext()) return MoveOn();
  Advance({});
}

std::uint64_t TextStream::StateFloats(const ModelConfig& config, std::uint64_t n_tokens,
                                      bool keeps) {
  return (keeps ? 2 : 1) * n_tokens * (config.hidden_size + WidestInput(config, Stands));
}

std::uint64_t TextStream::WorkBytes(const ModelConfig& config, std::uint32_t n_ctx,
                                    unsigned threads) {
  const std::uint64_t n_batch = TokensOfBatch(n_ctx);
  const std::uint64_t widest = WidestInput(config, [](const MatrixInput&) { return true; });
  // Of each thread: rows of a weight, two products with them (gate and up), a panel of tokens.
  const std::uint64_t of_thread =
      engine::kTileRows * widest + 2 * n_batch * engine::kTileRows + (1ULL << 18);
  // Step's three buffers, and what the input lacks. An expert takes no more: of its tokens what
  // goes in and what is inside, in both streams.
  const std::uint64_t of_token =
      config.hidden_size + 3 * engine::ForwardPass::WidestFloats(config) + widest;
  return (n_batch * of_token + threads * of_thread) * sizeof(float);
}

}  // namespace phiq::calibrate
