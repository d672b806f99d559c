// The folder that mlx-lm loads, with every byte's place decided.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/layout.h"
#include "formats/mlx/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::mlx {

// What an MLX module's tensors are called: MODULE.weight, its scales and its biases.
inline constexpr std::string_view kArrayNames[] = {"weight", "scales", "biases"};

// Every name that phiq may give a file in such a folder, made from this checkpoint.
std::vector<std::string> OwnedFiles(const SideFiles& files);

// `plan`        decisions about the small files are added to it.
// Throws   as MakeSideFiles and safetensors::PlaceTensors.
OutputLayout MakeLayout(const SideFiles& files, const Model& model, FolderPlan& plan);

// The content of model.safetensors.index.json.
std::string MakeIndex(const Plan& plan);

}  // namespace phiq::mlx
