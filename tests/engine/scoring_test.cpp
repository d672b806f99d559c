// Tiled scoring against whole rows of logits.
#include "engine/scoring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/memory_model.h"
#include "phiq/error.h"
#include "testing/every_target.h"

namespace phiq::engine {
namespace {

using phiq::testing::MemoryModel;
using phiq::testing::RandomIds;
using phiq::testing::SmallConfig;
using phiq::testing::Times;

constexpr std::uint32_t kPositions = 40;

// The head of a model on inputs of its own.
struct Case {
  explicit Case(unsigned seed) : model(SmallConfig(), seed), forward(model, 8) {
    std::mt19937 random(seed + 100);
    std::normal_distribution<float> normal(0, 2.0F);
    x.Resize(kPositions, model.config().hidden_size);
    std::ranges::generate(x.values, [&] { return normal(random); });
  }
  // Log-probabilities of the whole vocabulary at a position, in double precision.
  std::vector<double> LogProbs(std::size_t position) const {
    const std::span<const float> row = x.Row(position);
    std::vector<double> logits =
        Times(model.Weights(TensorRole::kOutputHead, -1), 0, model.config().vocab_size,
              std::vector<double>(row.begin(), row.end()));
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit);
    for (double& logit : logits) logit -= std::log(sum);
    return logits;
  }
  engine::HeadInput input() const { return {&forward, &x}; }

  MemoryModel model;
  ForwardModel forward;
  Matrix x;
};

TEST(ScorePositions, AgreesWithWholeRowsOfLogits) {
  const Case base(1);
  const Case other(2);
  const std::vector<HeadInput> inputs = {base.input(), other.input()};
  const std::vector<std::uint32_t> targets = RandomIds(kPositions, 600, 3);
  const auto scores = ScorePositions({.threads = 3}, inputs, targets);
  ASSERT_EQ(scores.size(), 2U);
  for (std::size_t i = 0; i < kPositions; ++i) {
    const std::vector<double> p = base.LogProbs(i);
    const std::vector<double> q = other.LogProbs(i);
    double kl = 0;
    for (std::size_t t = 0; t < p.size(); ++t) kl += std::exp(p[t]) * (p[t] - q[t]);
    // Logits of up to 40 in float32 are off by some 1e-5.
    EXPECT_NEAR(scores[0].log_prob[i], p[targets[i]], 1e-4);
    EXPECT_NEAR(scores[1].log_prob[i], q[targets[i]], 1e-4);
    EXPECT_NEAR(scores[1].kl[i], kl, 1e-4);
    EXPECT_EQ(scores[0].best[i], std::ranges::max_element(p) - p.begin());
    EXPECT_EQ(scores[1].best[i], std::ranges::max_element(q) - q.begin());
    EXPECT_EQ(scores[0].kl[i], 0.0);
  }
}

TEST(ScorePositions, SeesNoDivergenceFromTheSameModel) {
  const Case base(4);
  const std::vector<HeadInput> inputs = {base.input(), base.input()};
  const std::vector<std::uint32_t> targets(kPositions, 0);
  const auto scores = ScorePositions({}, inputs, targets);
  EXPECT_EQ(scores[1].kl, std::vector<double>(kPositions, 0.0));
  EXPECT_EQ(scores[1].log_prob, scores[0].log_prob);
}

TEST(ScorePositions, SeesSmallDivergences) {
  const Case base(5);
  Case other(5);
  for (float& x : other.x.values) x *= 1.00001F;
  const std::vector<HeadInput> inputs = {base.input(), other.input()};
  const std::vector<std::uint32_t> targets(kPositions, 0);
  const auto scores = ScorePositions({}, inputs, targets);
  double mean = 0;
  double expected = 0;
  for (std::size_t i = 0; i < kPositions; ++i) {
    // All logits l become (1 + e) l: KL = e^2 / 2 * variance of l under p, up to e^3.
    const std::vector<double> p = base.LogProbs(i);
    double first = 0;
    double second = 0;
    for (const double l : p) {
      first += std::exp(l) * l;
      second += std::exp(l) * l * l;
    }
    expected += 0.5e-10 * (second - first * first) / kPositions;
    mean += scores[1].kl[i] / kPositions;
  }
  // Of the order of 1e-10; the factor 1.00001 itself is a float32 and off by up to 0.3 %, and the
  // rounding of the logits (1e-6 each) adds some 1e-12.
  EXPECT_NEAR(mean, expected, 0.1 * expected);
}

TEST(ScorePositions, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Case base(6);
  const Case other(7);
  const std::vector<HeadInput> inputs = {base.input(), other.input()};
  const std::vector<std::uint32_t> targets = RandomIds(kPositions, 600, 8);
  const auto one = ScorePositions({.threads = 1}, inputs, targets);
  const auto many = ScorePositions({.threads = 5}, inputs, targets);
  for (std::size_t m = 0; m < 2; ++m) {
    EXPECT_EQ(one[m].log_prob, many[m].log_prob);
    EXPECT_EQ(one[m].kl, many[m].kl);
  }
}

TEST(ScorePositions, GivesTheSameBitsOnEveryTarget) {
  const Case base(10);
  const Case other(11);
  const std::vector<HeadInput> inputs = {base.input(), other.input()};
  const std::vector<std::uint32_t> targets = RandomIds(kPositions, 600, 12);
  const auto best = ScorePositions({}, inputs, targets);
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const testing::ChosenTarget chosen(target);
    const auto scores = ScorePositions({}, inputs, targets);
    for (std::size_t m = 0; m < 2; ++m) {
      EXPECT_EQ(scores[m].log_prob, best[m].log_prob) << hwy::TargetName(target);
      EXPECT_EQ(scores[m].kl, best[m].kl) << hwy::TargetName(target);
    }
  }
}

TEST(ScorePositions, RefusesLogitsThatAreNotFinite) {
  Case base(9);
  base.x.values[0] = std::numeric_limits<float>::infinity();
  const std::vector<HeadInput> inputs = {base.input()};
  const std::vector<std::uint32_t> targets(kPositions, 0);
  try {
    ScorePositions({}, inputs, targets);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNumeric);
  }
}

}  // namespace
}  // namespace phiq::engine
