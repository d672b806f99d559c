// Text that a model writes: the same for any threads and memory.
#include "calibrate/own_text.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/memory_model.h"
#include "phiq/checkpoint.h"
#include "testing/every_target.h"
#include "testing/test_data.h"

namespace phiq::calibrate {
namespace {

using phiq::testing::MemoryModel;
using phiq::testing::PlainLogits;
using phiq::testing::SmallConfig;

const std::vector<Opening> kFirst = {{7}, {11, 3, 5}, {13}};

OwnTextOptions Options(std::uint64_t n_windows, std::uint32_t n_ctx, std::uint64_t memory_bytes) {
  return {.n_windows = n_windows, .n_ctx = n_ctx, .memory_bytes = memory_bytes};
}

TEST(OwnText, TokenAtIsTheOneWhoseProbabilityHoldsTheShare) {
  // Probabilities 1/8, 1/2, 1/8, 1/4.
  const std::vector<float> logits = {std::log(1.0F), std::log(4.0F), std::log(1.0F),
                                     std::log(2.0F)};
  EXPECT_EQ(TokenAt(logits, 0), 0U);
  EXPECT_EQ(TokenAt(logits, 0.124), 0U);
  EXPECT_EQ(TokenAt(logits, 0.126), 1U);
  EXPECT_EQ(TokenAt(logits, 0.624), 1U);
  EXPECT_EQ(TokenAt(logits, 0.626), 2U);
  EXPECT_EQ(TokenAt(logits, 0.751), 3U);
  EXPECT_EQ(TokenAt(logits, 1 - 0x1p-53), 3U);
  EXPECT_EQ(TokenAt(std::vector<float>{-1e30F, 3, -1e30F}, 0.5), 1U);
}

TEST(OwnText, IsTheSameForAnyThreadsMemoryAndInstructionSet) {
  const MemoryModel model(SmallConfig(), 1);
  const auto options = Options(7, 20, 1ULL << 30);
  ASSERT_EQ(WindowsAtOnce(model.config(), options), 7U);
  const std::vector<std::uint32_t> text = WriteOwnText(model, kFirst, options, {});
  ASSERT_EQ(text.size(), 7U * 20U);
  for (std::size_t w = 0; w < 7; ++w) EXPECT_EQ(text[w * 20], kFirst[w % 3][0]);
  for (const std::size_t w : {1, 4}) {
    EXPECT_EQ(text[w * 20 + 1], 3U);
    EXPECT_EQ(text[w * 20 + 2], 5U);
  }
  EXPECT_EQ(WriteOwnText(model, kFirst, options, {.threads = 3}), text);
  ASSERT_EQ(WindowsAtOnce(model.config(), Options(7, 20, 25'000)), 3U);
  EXPECT_EQ(WriteOwnText(model, kFirst, Options(7, 20, 25'000), {}), text);
  EXPECT_EQ(WriteOwnText(model, kFirst, Options(7, 20, 1), {}), text);
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const testing::ChosenTarget chosen(target);
    EXPECT_EQ(WriteOwnText(model, kFirst, options, {}), text) << hwy::TargetName(target);
  }
  // Windows with one first token go on in different ways.
  EXPECT_NE(std::vector(text.begin(), text.begin() + 20),
            std::vector(text.begin() + 60, text.begin() + 80));
}

// Of the drawn tokens the mean of log p is the distributions' mean, minus the entropy, within its
// own standard error. Logits are those of plain loops in double precision.
TEST(OwnText, IsDrawnFromTheWholeDistribution) {
  ModelConfig config = SmallConfig();
  config.vocab_size = 300;
  MemoryModel model(config, 2);
  // Otherwise one token has nearly all of the probability.
  for (float& w : model.Weights(TensorRole::kOutputHead, -1)) w *= 0.3F;
  constexpr std::uint32_t kContext = 30;
  const std::vector<Opening> words = {{7}, {11}, {13}};
  const std::vector<std::uint32_t> text =
      WriteOwnText(model, words, Options(40, kContext, 1ULL << 30), {});
  double deviation = 0, variance = 0, entropy_sum = 0;
  std::size_t n = 0;
  for (std::size_t w = 0; w < 40; ++w) {
    const std::span<const std::uint32_t> ids = std::span(text).subspan(w * kContext, kContext);
    const auto logits = PlainLogits(model, ids);
    for (std::size_t p = 0; p + 1 < kContext; ++p, ++n) {
      double total = 0;
      for (const double l : logits[p]) total += std::exp(l);
      double mean = 0, squares = 0;
      for (const double l : logits[p]) {
        const double log_p = l - std::log(total);
        mean += std::exp(log_p) * log_p;
        squares += std::exp(log_p) * log_p * log_p;
      }
      deviation += logits[p][ids[p + 1]] - std::log(total) - mean;
      variance += squares - mean * mean;
      entropy_sum -= mean;
    }
  }
  EXPECT_GT(entropy_sum / static_cast<double>(n), 2);  // nats: there is something to draw
  EXPECT_LT(std::abs(deviation), 3 * std::sqrt(variance));
}

TEST(OwnText, BeginsWithWordsThatBeginWithABlank) {
  for (const std::string name : {"phi35-tiny", "phi4mini-tiny"}) {
    const auto ignore = [](const Warning&) {};
    const CheckpointFolder folder = LocateCheckpoint(std::string(kTestData) + "/" + name, ignore);
    const Checkpoint checkpoint = OpenCheckpoint(folder, ignore);
    const Model model =
        DescribeModel(folder, ReadModelConfig(folder, ignore), checkpoint, {}, ignore);
    const std::vector<std::uint32_t> words = FrequentWords(model.tokenizer);
    EXPECT_GT(words.size(), 100U) << name;
    const std::string blank = name == "phi35-tiny" ? "\xE2\x96\x81" : "\xC4\xA0";
    EXPECT_EQ(std::ranges::count(words,
                                 [&] {
                                   const auto& vocab = model.tokenizer.vocab;
                                   return static_cast<std::uint32_t>(
                                       std::ranges::find(vocab, blank + "the") - vocab.begin());
                                 }()),
              1)
        << name;
    for (const std::uint32_t word : words)
      EXPECT_TRUE(model.tokenizer.vocab[word].starts_with(blank));
    // One window in four begins as a chat.
    const std::vector<Opening> openings =
        Openings(model.tokenizer, model.config.vocab_size, ignore);
    EXPECT_EQ(openings.size(), words.size() + words.size() / 3);
    const auto user =
        std::ranges::find(model.tokenizer.added_tokens, "<|user|>", &AddedToken::content);
    ASSERT_NE(user, model.tokenizer.added_tokens.end());
    for (std::size_t i = 0; i < openings.size(); ++i) {
      if (i % 4 == 3) {
        EXPECT_EQ(openings[i].front(), user->id);
      } else {
        EXPECT_EQ(openings[i], Opening{words[i - i / 4]});
      }
    }
  }
}

}  // namespace
}  // namespace phiq::calibrate
