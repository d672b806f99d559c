// A greedy walk along the lower convex hulls: from the smallest option of every unit, always the
// step that saves most loss for its bytes. What then still fits is filled with single steps.
#include "plan/knapsack.h"

#include <limits>

namespace phiq {
namespace {

MixChoice Smallest(MixUnits units) {
  MixChoice choice;
  for (const std::vector<MixOption>& options : units) {
    std::size_t best = 0;
    for (std::size_t o = 1; o < options.size(); ++o) {
      const MixOption &one = options[o], &least = options[best];
      if (one.size_bytes < least.size_bytes ||
          (one.size_bytes == least.size_bytes && one.loss < least.loss))
        best = o;
    }
    choice.options.push_back(best);
    choice.size_bytes += options[best].size_bytes;
    choice.loss += options[best].loss;
  }
  return choice;
}

// Takes another option of a unit.
void Take(MixUnits units, std::size_t unit, std::size_t option, MixChoice& choice) {
  std::size_t& taken = choice.options[unit];
  choice.size_bytes -= units[unit][taken].size_bytes;
  choice.size_bytes += units[unit][option].size_bytes;
  taken = option;
  choice.loss = 0;  // summed anew, so that no rounding of differences gathers
  for (std::size_t u = 0; u < units.size(); ++u) choice.loss += units[u][choice.options[u]].loss;
}

struct Step {
  std::size_t unit = 0, option = 0;
};

// The step to a larger option that saves most loss a byte, of those that take at most `room` bytes
// more.
std::optional<Step> BestStep(MixUnits units, const MixChoice& choice, std::uint64_t room) {
  std::optional<Step> best;
  double best_rate = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    const MixOption& now = units[u][choice.options[u]];
    for (std::size_t o = 0; o < units[u].size(); ++o) {
      const MixOption& next = units[u][o];
      if (next.loss >= now.loss) continue;
      if (next.size_bytes <= now.size_bytes) return Step{u, o};  // better and no larger
      const std::uint64_t more = next.size_bytes - now.size_bytes;
      if (more > room) continue;
      const double rate = (now.loss - next.loss) / static_cast<double>(more);
      if (rate <= best_rate) continue;
      best_rate = rate;
      best = {u, o};
    }
  }
  return best;
}

}  // namespace

std::optional<MixChoice> LeastLoss(MixUnits units, std::uint64_t most_bytes) {
  MixChoice choice = Smallest(units);
  if (choice.size_bytes > most_bytes) return std::nullopt;
  while (const auto step = BestStep(units, choice, most_bytes - choice.size_bytes))
    Take(units, step->unit, step->option, choice);
  return choice;
}

std::optional<MixChoice> LeastBytes(MixUnits units, double most_loss) {
  MixChoice choice = Smallest(units);
  while (choice.loss > most_loss) {
    const auto step = BestStep(units, choice, std::numeric_limits<std::uint64_t>::max());
    if (!step) return std::nullopt;
    Take(units, step->unit, step->option, choice);
  }
  // The last step may have been a large one: what is not needed of others goes back.
  while (true) {
    std::optional<Step> best;
    std::uint64_t most_saved = 0;
    for (std::size_t u = 0; u < units.size(); ++u) {
      const MixOption& now = units[u][choice.options[u]];
      for (std::size_t o = 0; o < units[u].size(); ++o) {
        const MixOption& next = units[u][o];
        if (next.size_bytes >= now.size_bytes || choice.loss - now.loss + next.loss > most_loss)
          continue;
        const std::uint64_t saved = now.size_bytes - next.size_bytes;
        if (saved <= most_saved) continue;
        most_saved = saved;
        best = {u, o};
      }
    }
    if (!best) return choice;
    const MixChoice before = choice;
    Take(units, best->unit, best->option, choice);
    if (choice.loss > most_loss) return before;  // by a rounding
  }
}

}  // namespace phiq
