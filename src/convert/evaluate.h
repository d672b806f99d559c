// Evaluation with the names that messages use apart from the paths that are read: an output that
// waits for its final name is evaluated where it is.
#pragma once

#include <span>
#include <string>

#include "phiq/evaluate.h"

namespace phiq {

struct EvalInput {
  std::string path;
  std::string shown;
};

// Evaluate of `models` against `reference` (null: none); options.models and options.reference are
// not looked at.
EvalReport EvaluateInputs(std::span<const EvalInput> models, const EvalInput* reference,
                          const EvalOptions& options, const Hooks& hooks);

// Throws what EvaluateInputs would throw before it runs anything; without `read_text` only what
// options, the model's headers and a text that cannot be opened are the reason of.
void CheckEvaluation(const EvalInput& reference, const EvalOptions& options, bool read_text);

}  // namespace phiq
