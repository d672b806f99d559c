// --tensor-type REGEX=TYPE: which rule decides a tensor.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "phiq/plan.h"

namespace phiq {

struct RuleSubject {
  std::vector<std::string> names;  // two where a tied embedding is the output head too
  bool stays_float = false;        // whatever a rule finds
};

// For each subject the index of the last rule that finds one of its names.
//
// Throws   kUsage: a bad pattern, one that takes too long, one that finds no tensor (with a
//          suggestion) or norms alone.
std::vector<std::optional<std::size_t>> MatchRules(std::span<const TensorRule> rules,
                                                   std::span<const RuleSubject> subjects);

}  // namespace phiq
