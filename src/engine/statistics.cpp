// Standard errors take tokens as independent, as llama-perplexity does, so that figures compare.
#include "engine/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "base/portable_math.h"

namespace phiq::engine {

Estimate MeanOf(std::span<const double> values) {
  double sum = 0;
  for (const double x : values) sum += x;
  const auto n = static_cast<double>(values.size());
  const double mean = sum / n;
  if (values.size() < 2) return {mean, 0};
  double squares = 0;  // of the deviations: no cancellation
  for (const double x : values) squares += (x - mean) * (x - mean);
  return {mean, std::sqrt(squares / n / (n - 1))};
}

Estimate PerplexityOf(std::span<const double> log_probs) {
  const Estimate mean = MeanOf(log_probs);
  const double perplexity = PortableExp(-mean.value);
  return {perplexity, perplexity * mean.standard_error};
}

double PercentileOf(std::span<const double> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Divergence DivergenceOf(std::span<const double> reference_log_probs,
                        std::span<const double> log_probs, std::span<const double> kl,
                        std::span<const double> same_top) {
  Divergence divergence;
  divergence.mean_kl = MeanOf(kl);
  std::vector<double> sorted(kl.begin(), kl.end());
  std::ranges::sort(sorted);
  divergence.median_kl = PercentileOf(sorted, 0.5);
  divergence.p90_kl = PercentileOf(sorted, 0.9);
  divergence.p99_kl = PercentileOf(sorted, 0.99);
  divergence.p999_kl = PercentileOf(sorted, 0.999);
  divergence.max_kl = sorted.back();
  divergence.same_top = MeanOf(same_top);
  // The error of the differences is the paired one: what both models find hard cancels out.
  std::vector<double> differences(log_probs.size());
  for (std::size_t i = 0; i < differences.size(); ++i)
    differences[i] = reference_log_probs[i] - log_probs[i];
  divergence.log_ppl_ratio = MeanOf(differences);
  divergence.ppl_ratio = PortableExp(divergence.log_ppl_ratio.value);
  divergence.kl.assign(kl.begin(), kl.end());
  return divergence;
}

}  // namespace phiq::engine
