// Heads of zeros, for runtimes that take the head size from the width.
#pragma once

#include <string_view>

#include "phiq/model.h"
#include "stored/expression.h"

namespace phiq {

// So many heads that all of them are as wide as the hidden state. Sets the numbers in any case.
//
// Throws   kUnsupported: heads that do not fill it up. `runtime` is for the message.
void FillWidth(const ModelConfig& config, std::string_view runtime, Expression& expression);

// The expression without what changes nothing in such a model.
Expression Needed(const ModelConfig& config, Expression expression);

}  // namespace phiq
