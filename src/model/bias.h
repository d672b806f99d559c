// Which bias belongs to which weight.
#pragma once

#include "phiq/model.h"

namespace phiq {

// What may be added to a norm or to the product with a matrix; the role itself: nothing.
TensorRole BiasOf(TensorRole role) noexcept;

}  // namespace phiq
