// The files beside the weights: configuration, tokenizer, model card.
#pragma once

#include <string_view>
#include <vector>

#include "formats/side_files.h"
#include "formats/torch/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::torch {

// Every name that MakeSideFiles may give.
std::vector<std::string_view> SideFileNames();

// Throws   kInput: no config.json. kBadData: special ids that cannot be.
// Source   docs/formats/torch.md "The folder".
std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, FolderPlan& plan);

}  // namespace phiq::torch
