// How an evaluation is shown: as a table, and as JSON.
#pragma once

#include <string>

#include "console.h"
#include "phiq/evaluate.h"

namespace phiq::cli {

std::string FormatEvaluation(const EvalReport& report);
Json EvaluationToJson(const EvalReport& report);

}  // namespace phiq::cli
