// Statistics of inputs, layer by layer, against the forward pass as a whole.
#include "calibrate/text_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <string>

#include "calibrate/text.h"
#include "convert/open_model.h"
#include "engine/memory_model.h"
#include "io/temp_folder.h"
#include "phiq/error.h"
#include "testing/test_data.h"

namespace phiq::calibrate {
namespace {

using phiq::testing::MemoryModel;
using phiq::testing::Normalized;
using phiq::testing::RandomIds;
using phiq::testing::SmallConfig;

constexpr std::uint32_t kContext = 32;

FloatStore InMemory(const MemoryModel& model, std::size_t n_tokens) {
  return FloatStore(TextStream::StateFloats(model.config(), n_tokens));
}

InputStatistics::Wanted AllMoments(const MatrixInput&) { return {Needs::kMoments}; }

// All moments of every input, the head's last.
std::vector<InputStatistics> Moments(const MemoryModel& model,
                                     std::span<const std::uint32_t> windows,
                                     std::span<const std::uint32_t> held_back,
                                     unsigned threads = 2) {
  TextStream text(model, kContext, windows, held_back, {.threads = threads},
                  InMemory(model, windows.size() + held_back.size()));
  std::vector<InputStatistics> inputs;
  do {
    inputs.push_back(text.Next(AllMoments));
  } while (inputs.back().weight() != WeightId{TensorRole::kOutputHead});
  return inputs;
}

TEST(BlocksOf, CutsWideInputsIntoEqualBlocks) {
  EXPECT_EQ(BlocksOf(8192, 8192), (std::vector<std::size_t>{8192}));
  EXPECT_EQ(BlocksOf(17920, 8192), (std::vector<std::size_t>(5, 3584)));  // Phi-4's down_proj
  EXPECT_EQ(BlocksOf(8448, 8192), (std::vector<std::size_t>{2816, 2816, 2816}));
  EXPECT_EQ(BlocksOf(1000, 512), (std::vector<std::size_t>{256, 256, 256, 232}));
}

TEST(TextStream, GivesEveryMatrixTheMomentsOfItsInput) {
  const MemoryModel model(SmallConfig(), 1);
  const std::vector<std::uint32_t> ids = RandomIds(3 * kContext, model.config().vocab_size, 2);
  const std::vector<InputStatistics> inputs = Moments(model, ids, {});
  std::vector<WeightId> weights;
  for (const InputStatistics& input : inputs) weights.push_back(input.weight());
  EXPECT_EQ(weights, (std::vector<WeightId>{{TensorRole::kAttentionQkv, 0},
                                            {TensorRole::kAttentionOutput, 0},
                                            {TensorRole::kMlpGateUp, 0},
                                            {TensorRole::kMlpDown, 0},
                                            {TensorRole::kAttentionQkv, 1},
                                            {TensorRole::kAttentionOutput, 1},
                                            {TensorRole::kMlpGateUp, 1},
                                            {TensorRole::kMlpDown, 1},
                                            {TensorRole::kOutputHead}}));
  // The first input needs no forward pass: norms of embeddings, worked out in double.
  const std::size_t n = model.config().hidden_size;
  std::vector<double> h(n * n);
  for (const std::uint32_t id : ids) {
    const auto row = model.Weights(TensorRole::kTokenEmbedding, -1).begin() +
                     static_cast<std::ptrdiff_t>(id * n);
    const std::vector<double> x =
        Normalized({row, row + static_cast<std::ptrdiff_t>(n)},
                   model.Weights(TensorRole::kAttentionNorm, 0), model.config().rms_norm_eps);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        h[i * n + j] += x[i] * x[j] / static_cast<double>(ids.size());
  }
  InputStatistics first = inputs.front();
  ASSERT_EQ(first.blocks().size(), 1U);
  for (std::size_t i = 0; i < n; ++i) {
    // float32: inputs are right to some 1e-6, sums of 96 squares too.
    EXPECT_NEAR(first.squares()[i], h[i * n + i], 1e-5 * h[i * n + i]);
    for (std::size_t j = i; j < n; ++j)
      EXPECT_NEAR(first.blocks()[0].h.Row(i)[j], h[i * n + j],
                  1e-5 * std::sqrt(h[i * n + i] * h[j * n + j]));
  }
}

TEST(TextStream, LooksAtWhatIsHeldBackWithoutSummingIt) {
  const MemoryModel model(SmallConfig(), 3);
  const std::vector<std::uint32_t> ids = RandomIds(4 * kContext, model.config().vocab_size, 4);
  const std::span<const std::uint32_t> text(ids);
  const auto with = Moments(model, text.first(3 * kContext), text.last(kContext));
  const auto without = Moments(model, text.first(3 * kContext), {});
  const auto other = Moments(model, text.last(kContext), {});
  for (std::size_t i = 0; i < with.size(); ++i) {
    EXPECT_EQ(with[i].squares(), without[i].squares());
    EXPECT_EQ(with[i].probe().seen.values, without[i].probe().seen.values);
    EXPECT_EQ(with[i].probe().held_back.values, other[i].probe().seen.values);
    EXPECT_EQ(with[i].probe().held_back.n_rows, kContext);
    EXPECT_EQ(with[i].probe().seen.n_rows, 3 * kContext);  // all: fewer than a probe has
  }
}

// The inputs of RunLayer's taps, in the order of the products, and the head's.
std::vector<std::vector<float>> Inputs(const MemoryModel& model,
                                       std::span<const std::uint32_t> ids) {
  const engine::ForwardModel forward(model, kContext);
  engine::ForwardPass pass({.threads = 2});
  std::vector<std::vector<float>> inputs;
  engine::Matrix hidden, x;
  pass.Embed(forward, ids, hidden);
  for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(model.config().n_layers); ++layer)
    pass.RunLayer(forward, layer, hidden,
                  [&](WeightId, const engine::Matrix& input) { inputs.push_back(input.values); });
  std::vector<std::size_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), std::size_t{0});
  pass.NormalizeOutput(forward, hidden, positions, x);
  inputs.push_back(x.values);
  return inputs;
}

// Bit for bit those of a whole pass, whether hidden states wait in memory or on the disk, and when
// the text is run once more. Of a text of two batches, whose inputs stand side by side.
TEST(TextStream, StopsAtTheInputsOfAWholePass) {
  const MemoryModel model(SmallConfig(), 9);
  const std::vector<std::uint32_t> ids = RandomIds(40 * kContext, model.config().vocab_size, 10);
  std::vector<std::vector<float>> inputs = Inputs(model, ids);
  for (std::vector<float>& input : inputs) {  // what a probe has of them: every fifth token
    const std::size_t n = input.size() / ids.size();
    for (std::size_t t = 0; t < Probe::kTokens; ++t)
      std::copy_n(input.begin() + static_cast<std::ptrdiff_t>(5 * t * n), n,
                  input.begin() + static_cast<std::ptrdiff_t>(t * n));
    input.resize(Probe::kTokens * n);
  }
  ASSERT_EQ(ids.size(), 5 * Probe::kTokens);
  const TempFolder folder;
  const std::uint64_t n_floats = TextStream::StateFloats(model.config(), ids.size());
  for (const bool is_on_disk : {false, true}) {
    TextStream text(model, kContext, ids, {}, {.threads = 2},
                    is_on_disk ? FloatStore(ScratchFile(folder / "out", n_floats * sizeof(float)))
                               : FloatStore(n_floats));
    EXPECT_TRUE(folder.List().empty());  // the file has no name
    for (std::size_t i = 0; i + 1 < inputs.size(); ++i) text.Skip();
    text.Restart();
    for (const std::vector<float>& input : inputs)
      EXPECT_EQ(text.Next(AllMoments).probe().seen.values, input);
  }
}

// What a stream lacks of another one, and the moments of that: in double, from both streams'
// inputs.
TEST(TextStream, SeesWhatAnotherModelLacks) {
  const MemoryModel plain_model(SmallConfig(), 11);
  MemoryModel model(SmallConfig(), 11);
  std::mt19937 random(12);
  std::normal_distribution<float> noise(0, 0.05F);
  for (const TensorRole role : {TensorRole::kAttentionQkv, TensorRole::kMlpDown})
    for (float& w : model.Weights(role, 0)) w += noise(random);
  const std::vector<std::uint32_t> all = RandomIds(4 * kContext, model.config().vocab_size, 13);
  const std::span<const std::uint32_t> ids = std::span(all).first(3 * kContext);
  const std::span<const std::uint32_t> held_back = std::span(all).last(kContext);
  const auto plain_inputs = Inputs(plain_model, ids), inputs = Inputs(model, ids);
  const auto plain_others = Inputs(plain_model, held_back), others = Inputs(model, held_back);
  const auto lacks = [](const std::vector<float>& x, std::vector<float> y) {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[i] - y[i];
    return y;
  };
  TextStream plain(plain_model, kContext, ids, held_back, {.threads = 2},
                   InMemory(model, all.size()));
  TextStream text(model, kContext, ids, held_back, {.threads = 2}, InMemory(model, all.size()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    plain.Next(AllMoments);
    InputStatistics input = text.NextBeside(plain, AllMoments);
    EXPECT_EQ(input.weight(), plain.at()->weight);
    EXPECT_EQ(input.probe().seen.values, inputs[i]);
    EXPECT_EQ(input.probe().held_back.values, others[i]);
    EXPECT_EQ(input.probe().seen_lacks.values, lacks(plain_inputs[i], inputs[i]));
    EXPECT_EQ(input.probe().held_back_lacks.values, lacks(plain_others[i], others[i]));
    const engine::Matrix& d = input.blocks().front().d;
    const std::size_t n = d.n_columns;
    double worst = 0, largest = 0;
    for (std::size_t r = 0; r < n; ++r) {
      for (std::size_t c = 0; c < n; ++c) {
        double sum = 0, size = 0;
        for (std::size_t t = 0; t < ids.size(); ++t) {
          const double a = input.probe().seen_lacks.Row(t)[r], b = inputs[i][t * n + c];
          sum += a * b;
          size += std::abs(a * b);
        }
        const auto n_tokens = static_cast<double>(ids.size());
        // A chain of 96 terms, and its mean.
        worst = std::max(worst, std::abs(d.Row(r)[c] - sum / n_tokens) - 1e-5 * size / n_tokens);
        largest = std::max(largest, std::abs(sum));
      }
    }
    EXPECT_LE(worst, 0) << i;
    EXPECT_EQ(largest > 0, i > 0) << i;  // nothing is lost before the first matrix
  }
}

TEST(TextStream, GivesTheSameBitsOnAnyNumberOfThreads) {
  const MemoryModel model(SmallConfig(), 5);
  const std::vector<std::uint32_t> ids = RandomIds(80 * kContext, model.config().vocab_size, 6);
  std::vector<InputStatistics> one = Moments(model, ids, {}, 1);
  std::vector<InputStatistics> many = Moments(model, ids, {}, 7);
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].squares(), many[i].squares());
    EXPECT_EQ(one[i].blocks()[0].h.values, many[i].blocks()[0].h.values);
  }
}

// What RunLayer's taps see of a model with experts, in double: squares of each weight's inputs by
// column, and how many inputs there are.
struct Seen {
  std::vector<double> squares;
  std::size_t n_tokens = 0;
  void Add(const engine::Matrix& x) {
    squares.resize(x.n_columns);
    for (std::size_t i = 0; i < x.values.size(); ++i)
      squares[i % x.n_columns] += static_cast<double>(x.values[i]) * x.values[i];
    n_tokens += x.n_rows;
  }
};

void ExpectNear(std::span<const float> found, std::span<const double> wanted, double share) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t c = 0; c < wanted.size(); ++c)
    EXPECT_NEAR(found[c], wanted[c] * share, 1e-5 * wanted[c] * share) << c;  // sums of float32
}

TEST(TextStream, GivesAnExpertItsOwnTokensOrAllOfItsLayer) {
  const auto stored =
      OpenStoredModel(std::string(kTestData) + "/phimoe-tiny", [](const Warning&) {});
  const ModelConfig& config = stored->config();
  const std::vector<std::uint32_t> all = RandomIds(33 * kContext, config.vocab_size, 14);
  const std::span<const std::uint32_t> ids = std::span(all).first(32 * kContext);
  std::map<WeightId, Seen> seen;
  const engine::ForwardModel forward(*stored, kContext);
  engine::ForwardPass pass({.threads = 2});
  engine::Matrix hidden;
  pass.Embed(forward, ids, hidden);
  for (std::int32_t layer = 0; layer < 2; ++layer)
    pass.RunLayer(forward, layer, hidden,
                  [&](WeightId id, const engine::Matrix& x) { seen[id].Add(x); });

  TextStream text(*stored, kContext, ids, std::span(all).last(kContext), {.threads = 2},
                  FloatStore(TextStream::StateFloats(config, all.size())));
  ASSERT_EQ(text.inputs().size(), 2 * (2 + 2 * 6) + 1U);
  std::size_t n_rare = 0, n_common = 0;
  while (text.n_reached() < text.inputs().size()) {
    InputStatistics input = text.Next(AllMoments);
    const MatrixInput& at = *text.at();
    EXPECT_EQ(input.weight(), at.weight);
    if (at.weight.layer < 0) continue;
    for (const WeightId& weight : at.weights) {
      const Seen& own = seen[weight];
      EXPECT_EQ(input.reached().n_tokens, own.n_tokens);
      if (own.n_tokens > 0) ExpectNear(input.reached().of_columns, own.squares, 1);
      const bool is_rare = at.is_of_expert() && own.n_tokens < kLeastTokensOfExpert;
      if (!is_rare) {
        ExpectNear(input.squares(), own.squares, 1.0 / static_cast<double>(own.n_tokens));
        EXPECT_EQ(input.probe().seen.n_rows, 256U);
      } else if (weight.role == TensorRole::kExpertGate) {
        // Every token is given to two experts.
        std::vector<double> sums(config.hidden_size);
        for (std::int32_t e = 0; e < 6; ++e) {
          const Seen& one = seen[{weight.role, weight.layer, e}];
          for (std::size_t c = 0; c < one.squares.size(); ++c) sums[c] += one.squares[c];
        }
        ExpectNear(input.squares(), sums, 0.5 / static_cast<double>(ids.size()));
        EXPECT_EQ(input.probe().held_back.n_rows, kContext);
      }
      (is_rare ? n_rare : n_common) += at.is_of_expert() ? 1 : 0;
    }
    for (std::size_t c = 0; c < at.n_columns; ++c)
      EXPECT_NEAR(input.blocks()[0].h.Row(c)[c], input.squares()[c], 1e-5 * input.squares()[c]);
  }
  EXPECT_GT(n_rare, 0U);
  EXPECT_GT(n_common, 0U);
}

// An expert that both streams use for other tokens, too, has those of both.
TEST(TextStream, LacksNothingOfItself) {
  const auto stored =
      OpenStoredModel(std::string(kTestData) + "/phimoe-tiny", [](const Warning&) {});
  const std::vector<std::uint32_t> ids = RandomIds(16 * kContext, stored->config().vocab_size, 15);
  const auto make = [&] {
    return TextStream(*stored, kContext, ids, std::span(ids).last(kContext), {.threads = 2},
                      FloatStore(TextStream::StateFloats(stored->config(), 17 * kContext)));
  };
  TextStream plain = make(), text = make();
  while (text.n_reached() < text.inputs().size()) {
    const InputStatistics wanted = plain.Next(AllMoments);
    InputStatistics input = text.NextBeside(plain, AllMoments);
    EXPECT_EQ(input.squares(), wanted.squares());
    for (const InputStatistics::Block& block : input.blocks())
      EXPECT_TRUE(std::ranges::all_of(block.d.values, [](float value) { return value == 0; }));
  }
}

TEST(TextStream, NamesTheInputWhoseSquaresAreTooLarge) {
  MemoryModel model(SmallConfig(), 7);
  for (float& w : model.Weights(TensorRole::kMlpNorm, 1)) w = 1e16F;
  const std::vector<std::uint32_t> ids = RandomIds(kContext, model.config().vocab_size, 8);
  try {
    Moments(model, ids, {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNumeric);
    EXPECT_NE(std::string(error.what()).find("the input of layer 1's mlp_gate_up: column "),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace phiq::calibrate
