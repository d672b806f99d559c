// In float32, step by step as transformers has it.
#include "engine/experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/kernels.h"

namespace phiq::engine {
namespace {

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// The best expert but `left_out`, and its weight in a softmax over it and its near ties.
ExpertChoice ChooseOne(std::span<const float> scores, float epsilon, std::uint32_t left_out) {
  ExpertChoice best{left_out == 0 ? 1U : 0U};
  for (std::uint32_t i = 0; i < scores.size(); ++i)
    if (i != left_out && scores[i] > scores[best.expert]) best.expert = i;
  const float largest = scores[best.expert];
  thread_local std::vector<float> ties;
  ties.clear();
  for (std::uint32_t i = 0; i < scores.size(); ++i) {
    // All zeros: 0 / 0 is not greater than anything, so that they all tie.
    const bool is_less =
        (largest - scores[i]) / std::max(std::abs(scores[i]), largest) > 2 * epsilon;
    if (i != left_out && !is_less) ties.push_back(scores[i] - largest);
  }
  Exponentials(ties.data(), ties.size(), ties.data());
  float sum = 0;
  for (const float tie : ties) sum += tie;
  best.weight = 1.0F / sum;
  return best;
}

}  // namespace

std::array<ExpertChoice, 2> ChooseExperts(std::span<const float> scores, const Experts& experts) {
  ExpertChoice first = ChooseOne(scores, experts.epsilon, kNone);
  ExpertChoice second = ChooseOne(scores, experts.epsilon, first.expert);
  if (experts.is_softmax) {
    float ratio = scores[second.expert] - scores[first.expert];
    Exponentials(&ratio, 1, &ratio);
    first.weight = 1.0F / (1.0F + ratio);
    second.weight = ratio / (1.0F + ratio);
  }
  return {first, second};
}

}  // namespace phiq::engine
