// How far one model's answers are from another's (docs/evaluation.md "Figures").
#pragma once

#include <vector>

namespace phiq {

struct Estimate {
  double value = 0;
  double standard_error = 0;
};

// Of a model's distributions from the reference's, over all scored positions; in nats.
struct Divergence {
  Estimate mean_kl;  // KL(reference || model)
  double median_kl = 0, p90_kl = 0, p99_kl = 0, p999_kl = 0, max_kl = 0;
  Estimate same_top;       // share of positions with the same best token
  Estimate log_ppl_ratio;  // mean of log p_reference(token) - log p_model(token), error paired
  double ppl_ratio = 1;    // exp of it
  // KL of every scored position: windows one after the other.
  std::vector<float> kl;
};

}  // namespace phiq
