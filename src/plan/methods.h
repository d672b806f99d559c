// The methods that every format has besides those of its runtime's own tool.
#pragma once

#include <string_view>

#include "phiq/plan.h"

namespace phiq {

// One of CommonMethods by its name; nullptr: none of them.
const Method* FindCommonMethod(std::string_view name) noexcept;

// The method takes the place of the planner's own in every line that it can fill. An embedding that
// is looked up and not multiplied has no inputs: kSearch. A decision says what it is used for.
void UseMethod(const Method& method, Plan& plan);

}  // namespace phiq
