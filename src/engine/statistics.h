// Means, errors and percentiles of what was scored.
#pragma once

#include <span>

#include "phiq/divergence.h"

namespace phiq::engine {

// The mean and its standard error sqrt((mean of x^2 - mean^2) / (n - 1)): tokens count as
// independent. 0 error for a single value.
Estimate MeanOf(std::span<const double> values);

// exp(-mean log-probability), and its error to first order: perplexity times that of the mean.
Estimate PerplexityOf(std::span<const double> log_probs);

// Of sorted values, interpolated linearly at share * (n - 1): 0.5 is the median.
double PercentileOf(std::span<const double> sorted, double share);

// `same_top`  1 where both models have the same best token, else 0.
Divergence DivergenceOf(std::span<const double> reference_log_probs,
                        std::span<const double> log_probs, std::span<const double> kl,
                        std::span<const double> same_top);

}  // namespace phiq::engine
