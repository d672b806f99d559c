// The forward pass against plain loops, on every instruction set.
#include "engine/forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/memory_model.h"
#include "phiq/error.h"
#include "testing/every_target.h"

namespace phiq::engine {
namespace {

using phiq::testing::MemoryModel;
using phiq::testing::PlainLogits;
using phiq::testing::RandomIds;
using phiq::testing::SmallConfig;

// What the engine multiplies with the head, at every position.
Matrix HeadInput(const MemoryModel& model, std::span<const std::uint32_t> ids, std::uint32_t n_ctx,
                 const Runner& runner) {
  const ForwardModel forward(model, n_ctx);
  ForwardPass pass(runner);
  Matrix hidden;
  pass.Embed(forward, ids, hidden);
  for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(model.config().n_layers); ++layer)
    pass.RunLayer(forward, layer, hidden);
  std::vector<std::size_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  Matrix out;
  pass.NormalizeOutput(forward, hidden, positions, out);
  return out;
}

// As a share of the largest logit.
double LargestLogitDifference(const MemoryModel& model, const Runner& runner) {
  constexpr std::uint32_t kContext = 100;
  const std::vector<std::uint32_t> ids = RandomIds(2 * kContext, model.config().vocab_size, 5);
  const Matrix x = HeadInput(model, ids, kContext, runner);
  const std::vector<float>& head = model.Weights(TensorRole::kOutputHead, -1);
  double largest = 0;
  double largest_logit = 0;
  for (std::size_t first = 0; first < ids.size(); first += kContext) {  // texts of their own
    const auto expected = PlainLogits(model, std::span(ids).subspan(first, kContext));
    for (std::size_t p = 0; p < kContext; ++p) {
      const std::span<const float> row = x.Row(first + p);
      const std::vector<double> logits = phiq::testing::Times(
          head, 0, model.config().vocab_size, std::vector<double>(row.begin(), row.end()));
      for (std::size_t i = 0; i < logits.size(); ++i) {
        largest = std::max(largest, std::abs(logits[i] - expected[p][i]));
        largest_logit = std::max(largest_logit, std::abs(expected[p][i]));
      }
    }
  }
  return largest / largest_logit;
}

// Float32 sums of up to 300 terms, and random weights that make the softmax steep: 3e-6 to 2e-5
// were seen. A wrong angle, head or mask gives more than 0.01.
constexpr double kTolerance = 1e-4;

TEST(ForwardPass, AgreesWithPlainLoops) {
  EXPECT_LT(LargestLogitDifference(MemoryModel(SmallConfig(), 1), {.threads = 2}), kTolerance);
}

// Two texts position by position, against both as windows.
TEST(ForwardPass, GivesTheSameBitsPositionByPosition) {
  constexpr std::uint32_t kContext = 90;  // more than a block of queries
  const MemoryModel model(SmallConfig(), 3);
  const ForwardModel forward(model, kContext);
  const std::vector<std::uint32_t> ids = RandomIds(2 * kContext, model.config().vocab_size, 4);
  const Matrix whole = HeadInput(model, ids, kContext, {});
  ForwardPass pass({.threads = 2});
  KeyValues past(forward, 2);
  for (std::size_t p = 0; p < kContext; ++p) {
    Matrix hidden;
    pass.Embed(forward, std::vector{ids[p], ids[kContext + p]}, hidden);
    for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(model.config().n_layers);
         ++layer)
      pass.RunLayer(forward, layer, past, hidden);
    ++past.position;
    Matrix out;
    pass.NormalizeOutput(forward, hidden, std::vector<std::size_t>{0, 1}, out);
    EXPECT_TRUE(std::ranges::equal(out.Row(0), whole.Row(p))) << p;
    EXPECT_TRUE(std::ranges::equal(out.Row(1), whole.Row(kContext + p))) << p;
  }
}

TEST(ForwardPass, GivesTheSameBitsOnEveryTarget) {
  const MemoryModel model(SmallConfig(), 10);
  const std::vector<std::uint32_t> ids = RandomIds(128, model.config().vocab_size, 11);
  const Matrix best = HeadInput(model, ids, 64, {});
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const testing::ChosenTarget chosen(target);
    EXPECT_EQ(HeadInput(model, ids, 64, {}).values, best.values) << hwy::TargetName(target);
  }
}

TEST(ForwardPass, AttendsWithinTheSlidingWindow) {
  ModelConfig config = SmallConfig();
  config.sliding_window = 17;
  EXPECT_LT(LargestLogitDifference(MemoryModel(config, 2), {}), kTolerance);
}

TEST(ForwardPass, RotatesWholeHeadsAndSharesNone) {
  ModelConfig config = SmallConfig();
  config.rope_dim = config.head_dim;
  config.n_kv_heads = config.n_heads;
  EXPECT_LT(LargestLogitDifference(MemoryModel(config, 3), {}), kTolerance);
}

TEST(ForwardPass, UsesATiedEmbeddingAsTheHead) {
  ModelConfig config = SmallConfig();
  config.tie_word_embeddings = true;
  EXPECT_LT(LargestLogitDifference(MemoryModel(config, 4), {}), kTolerance);
}

TEST(ForwardPass, GivesTheSameBitsOnAnyNumberOfThreads) {
  const MemoryModel model(SmallConfig(), 6);
  const std::vector<std::uint32_t> ids = RandomIds(128, model.config().vocab_size, 7);
  const Matrix one = HeadInput(model, ids, 64, {.threads = 1});
  EXPECT_EQ(HeadInput(model, ids, 64, {.threads = 2}).values, one.values);
  EXPECT_EQ(HeadInput(model, ids, 64, {.threads = 7}).values, one.values);
}

TEST(ForwardPass, NamesTheLayerWhereNumbersOverflow) {
  MemoryModel model(SmallConfig(), 8);
  for (float& w : model.Weights(TensorRole::kMlpDown, 1)) w = std::numeric_limits<float>::max();
  const std::vector<std::uint32_t> ids = RandomIds(8, model.config().vocab_size, 9);
  try {
    HeadInput(model, ids, 8, {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNumeric);
    EXPECT_STREQ(error.what(), "the hidden state has a NaN or Inf behind layer 1");
  }
}

}  // namespace
}  // namespace phiq::engine
