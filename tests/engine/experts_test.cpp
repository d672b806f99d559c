// Which experts a token uses: worked by hand from the formula in model/architecture.h.
#include "engine/experts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace phiq::engine {
namespace {

constexpr Experts kMixer = {.n_experts = 4, .epsilon = 0.01F, .expert = {}, .is_softmax = false};
constexpr Experts kSoftmax = {.n_experts = 4, .epsilon = 0.01F, .expert = {}, .is_softmax = true};

void ExpectChoice(const std::vector<float>& scores, const Experts& experts, std::uint32_t first,
                  double first_weight, std::uint32_t second, double second_weight) {
  const auto choice = ChooseExperts(scores, experts);
  EXPECT_EQ(choice[0].expert, first);
  EXPECT_EQ(choice[1].expert, second);
  // A sum of at most four floats, a division: a few units in the last place.
  EXPECT_NEAR(choice[0].weight, first_weight, 1e-6);
  EXPECT_NEAR(choice[1].weight, second_weight, 1e-6);
}

TEST(Experts, CountForOneWhereNothingTies) {
  ExpectChoice({1.0F, 3.0F, 2.0F, -5.0F}, kMixer, 1, 1.0, 2, 1.0);
}

TEST(Experts, ShareTheWeightOfANearTie) {
  // (3 - 2.95) / 3 is within 2 %, (3 - 2.9) / 3 is not; 2.9 ties with 2.95.
  const double tie = 1 / (1 + std::exp(-0.05));
  ExpectChoice({3.0F, 2.95F, 2.9F, 0.0F}, kMixer, 0, tie, 1, tie);
}

TEST(Experts, MeasureDistancesByTheLargerMagnitude) {
  // Largest 0.1: a score of -5 is 5.1 / 5 away, one of -0.1 is 0.2 / 0.1.
  ExpectChoice({-5.0F, 0.1F, -0.1F, -0.102F}, kMixer, 1, 1.0, 2, 1 / (1 + std::exp(-0.002)));
  // All below zero: by their own magnitudes. (-1 + 1.01) / 1.01 ties.
  ExpectChoice({-1.0F, -1.01F, -2.0F, -3.0F}, kMixer, 0, 1 / (1 + std::exp(-0.01)), 1, 1.0);
}

TEST(Experts, TieWhenAllScoresAreZero) {
  ExpectChoice({0.0F, 0.0F, 0.0F, 0.0F}, kMixer, 0, 0.25, 1, 1.0 / 3);
}

TEST(Experts, HaveASoftmaxOfTheTwoBestWhereTheRuntimeDoes) {
  const double first = 1 / (1 + std::exp(-1.0));
  ExpectChoice({1.0F, 3.0F, 2.0F, -5.0F}, kSoftmax, 1, first, 2, 1 - first);
}

}  // namespace
}  // namespace phiq::engine
