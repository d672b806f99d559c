// generation_config.json of an output: what tells runtimes where a text ends.
#pragma once

#include <string_view>

#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq {

inline constexpr std::string_view kGenerationConfig = "generation_config.json";

// The checkpoint's file as it is, when it names every id that ends a text; else with those ids, or
// a new one. Each addition is a decision of the plan.
//
// Throws   as ReadGenerationConfig.
SideFile MakeGenerationConfig(const SideFiles& source, const Model& model, Plan& plan);

}  // namespace phiq
