// Statistics of inputs, layer by layer, against the forward pass as a whole.
#include "calibrate/text_stream.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/memory_model.h"
#include "phiq/error.h"

namespace phiq::calibrate {
namespace {

using phiq::testing::MemoryModel;
using phiq::testing::Normalized;
using phiq::testing::RandomIds;
using phiq::testing::SmallConfig;

constexpr std::uint32_t kContext = 32;

// All moments of every input, the head's last.
std::vector<InputStatistics> Moments(const MemoryModel& model, std::span<const std::uint32_t> windows,
                                 std::span<const std::uint32_t> held_back, unsigned threads = 2) {
  TextStream text(model, kContext, windows, held_back, {.threads = threads});
  const TextStream::WantedFn wanted = [&](WeightId) {
    return InputStatistics::Wanted{Needs::kMoments, kWidestBlock, text.n_tokens(),
                                   text.n_held_back()};
  };
  std::vector<InputStatistics> inputs;
  for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(model.config().n_layers); ++layer)
    for (InputStatistics& input : text.RunLayer(layer, wanted)) inputs.push_back(std::move(input));
  inputs.push_back(text.RunHead(wanted));
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
