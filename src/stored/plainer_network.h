// What a runtime computes that has plainer layers than the model.
#pragma once

#include "model/architecture.h"
#include "phiq/model.h"

namespace phiq {

// Of a model with experts: an RMS norm, with a bias, for each LayerNorm, and a softmax over the two
// best experts. With weights of zero mean and the exponents of an Expression it is what the model
// computes, but for near ties of experts.
Network PlainerNetwork(const ModelConfig& config);

}  // namespace phiq
