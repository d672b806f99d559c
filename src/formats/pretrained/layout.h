// The files of a checkpoint folder.
#pragma once

#include <string>
#include <vector>

#include "formats/layout.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::pretrained {

// See Format::owned_files.
std::vector<std::string> OwnedFiles(const SideFiles& source);

// See Format::lay_out. config.json names the type of the weights. A source without the tokenizer's
// files gives a folder without them, and a decision that says so.
//
// Throws   as ReadTokenizerFiles and safetensors::PlaceTensors.
OutputLayout MakeLayout(const SideFiles& source, const Model& model, Plan& plan);

}  // namespace phiq::pretrained
