// Other weights that say the same: for a runtime that computes something else than the model with
// the model's own.
#pragma once

#include <cstdint>
#include <memory>

#include "phiq/model.h"

namespace phiq {

class StoredModel;

// Exact in real arithmetic, computed in double precision.
struct Expression {
  // All that is added to the residual stream has mean zero, so that an RMS norm is a LayerNorm.
  bool has_zero_mean = false;
  // The router and the experts' down matrices times such powers of two: a softmax over the two best
  // scores gives 1/2 and 1/2 with scores that are close, and twice the half is what two weights of
  // 1 give.
  int router_exponent = 0, down_exponent = 0;
  // Heads of zeros behind the model's own. 0: none.
  std::uint32_t n_heads = 0, n_kv_heads = 0;
  bool has_all_biases = false;  // zeros where the model has none

  bool operator==(const Expression&) const = default;
};

// The model with the weights changed; the same one where nothing is to be changed. Its network() is
// PlainerNetwork (plainer_network.h) where an exponent is not 0, else the model's own.
std::unique_ptr<StoredModel> Express(std::unique_ptr<StoredModel> model,
                                     const Expression& expression);

}  // namespace phiq
