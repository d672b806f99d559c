// The choice of options for a size or a loss, against trying every combination.
#include "plan/knapsack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace phiq {
namespace {

using Units = std::vector<std::vector<MixOption>>;

// Losses of types: less the larger they are, as of real ones, with some dents.
Units RandomUnits(std::size_t n_units, std::size_t n_options, std::mt19937& random) {
  std::uniform_int_distribution<std::uint64_t> bytes(10, 40);
  std::uniform_real_distribution<double> weight(0.1, 5), dent(0.7, 1.3);
  Units units;
  for (std::size_t u = 0; u < n_units; ++u) {
    const double scale = weight(random);
    std::uint64_t size = 0;
    std::vector<MixOption> options;
    for (std::size_t o = 0; o < n_options; ++o) {
      size += bytes(random);
      options.push_back({size, scale * std::pow(0.25, static_cast<double>(o)) * dent(random)});
    }
    std::ranges::shuffle(options, random);
    units.push_back(options);
  }
  return units;
}

// Calls use(size, loss) for every combination.
template <typename Use>
void ForEachCombination(const Units& units, const Use& use, std::size_t unit = 0,
                        std::uint64_t size = 0, double loss = 0) {
  if (unit == units.size()) return use(size, loss);
  for (const MixOption& option : units[unit])
    ForEachCombination(units, use, unit + 1, size + option.size_bytes, loss + option.loss);
}

// What a unit's worst step can leave on the table.
double LargestLoss(const Units& units) {
  double largest = 0;
  for (const auto& options : units)
    largest = std::max(largest, std::ranges::max(options, {}, &MixOption::loss).loss);
  return largest;
}

void ExpectSums(const Units& units, const MixChoice& choice) {
  std::uint64_t size = 0;
  double loss = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    size += units[u][choice.options[u]].size_bytes;
    loss += units[u][choice.options[u]].loss;
  }
  EXPECT_EQ(size, choice.size_bytes);
  EXPECT_DOUBLE_EQ(loss, choice.loss);
}

TEST(LeastLoss, IsWithinOneUnitOfTheBest) {
  std::mt19937 random(1);
  for (int round = 0; round < 30; ++round) {
    const Units units = RandomUnits(6, 4, random);
    std::uint64_t least = 0, most = 0;
    for (const auto& options : units) {
      least += std::ranges::min(options, {}, &MixOption::size_bytes).size_bytes;
      most += std::ranges::max(options, {}, &MixOption::size_bytes).size_bytes;
    }
    for (int part = 0; part <= 4; ++part) {
      const std::uint64_t room = least + (most - least) * static_cast<std::uint64_t>(part) / 4;
      double best = std::numeric_limits<double>::infinity();
      ForEachCombination(units, [&](std::uint64_t size, double loss) {
        if (size <= room) best = std::min(best, loss);
      });
      const auto choice = LeastLoss(units, room);
      ASSERT_TRUE(choice);
      ExpectSums(units, *choice);
      EXPECT_LE(choice->size_bytes, room);
      EXPECT_LE(choice->loss, best + LargestLoss(units));
      // Nothing that still fits is left.
      for (std::size_t u = 0; u < units.size(); ++u)
        for (const MixOption& option : units[u]) {
          const MixOption& taken = units[u][choice->options[u]];
          EXPECT_FALSE(option.loss < taken.loss &&
                       choice->size_bytes - taken.size_bytes + option.size_bytes <= room);
        }
    }
  }
}

// Losses of equal units fall to a quarter for equal bytes: the best is known without trying.
TEST(LeastLoss, SpendsWhereMostIsLost) {
  const Units units = {{{10, 1}, {20, 0.25}}, {{10, 8}, {20, 2}}, {{10, 4}, {20, 1}}};
  const auto choice = LeastLoss(units, 50);
  ASSERT_TRUE(choice);
  EXPECT_THAT(choice->options, ::testing::ElementsAre(0, 1, 1));
  EXPECT_EQ(choice->size_bytes, 50);
  EXPECT_DOUBLE_EQ(choice->loss, 4);
}

TEST(LeastLoss, TakesWhatIsBetterAndNoLarger) {
  const Units units = {{{10, 4}, {10, 3}, {9, 3.5}, {12, 5}}};
  EXPECT_THAT(LeastLoss(units, 12)->options, ::testing::ElementsAre(1));
  EXPECT_THAT(LeastLoss(units, 9)->options, ::testing::ElementsAre(2));
}

TEST(LeastLoss, HasNoAnswerBelowTheSmallest) {
  const Units units = {{{10, 1}, {20, 0}}, {{7, 1}}};
  EXPECT_TRUE(LeastLoss(units, 17));
  EXPECT_FALSE(LeastLoss(units, 16));
}

TEST(LeastBytes, IsWithinOneUnitOfTheBest) {
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    const Units units = RandomUnits(6, 4, random);
    std::uint64_t largest = 0;
    double least = 0;
    for (const auto& options : units) {
      largest = std::max(largest, std::ranges::max(options, {}, &MixOption::size_bytes).size_bytes);
      least += std::ranges::min(options, {}, &MixOption::loss).loss;
    }
    for (const double factor : {1.5, 4.0, 20.0}) {
      const double limit = least * factor;
      std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
      ForEachCombination(units, [&](std::uint64_t size, double loss) {
        if (loss <= limit) best = std::min(best, size);
      });
      const auto choice = LeastBytes(units, limit);
      ASSERT_TRUE(choice);
      ExpectSums(units, *choice);
      EXPECT_LE(choice->loss, limit);
      EXPECT_LE(choice->size_bytes, best + largest);
    }
    EXPECT_FALSE(LeastBytes(units, least * 0.99));
  }
}

}  // namespace
}  // namespace phiq
