// The weights that llama.cpp's phimoe has to be given to compute PhiMoE.
#pragma once

#include <string_view>

#include "phiq/model.h"
#include "phiq/plan.h"
#include "stored/expression.h"

namespace phiq::gguf {

// A bool that phiq writes: true where the weights are changed so that llama.cpp's function is the
// model's.
inline constexpr std::string_view kReexpressedKey = "phiq.phimoe.reexpressed";

// Of models with experts; what llama.cpp cannot load without is there in any case.
//
// Throws   kUnsupported: heads that cannot be filled up to the width; a tied embedding.
Expression OwnExpression(const ModelConfig& config, bool is_reexpressed);
// That of an output. See Format::expression.
Expression ExpressionOf(const ModelConfig& config, const PlanOptions& options);

}  // namespace phiq::gguf
