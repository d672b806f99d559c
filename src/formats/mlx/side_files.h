// The files beside the weights: configuration, tokenizer, model card, the checkpoint's code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/mlx/plan.h"
#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::mlx {

// Every name that MakeSideFiles may give, but for the checkpoint's *.py.
std::vector<std::string_view> SideFileNames();

// The *.py of a checkpoint, which mlx-lm copies, too: config.json may name them.
std::vector<std::string> CodeFileNames(const SideFiles& source);

// config.json with the rest of what mlx-lm reads or people look at.
//
// Throws   kInput: no config.json and no tokenizer. kBadData: special ids that cannot be.
// Source   docs/formats/mlx.md "The folder".
std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, FolderPlan& plan);

}  // namespace phiq::mlx
