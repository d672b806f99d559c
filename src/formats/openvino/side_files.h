// The files beside the model: configuration and tokenizer.
#pragma once

#include <string_view>
#include <vector>

#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::openvino {

// Every name that MakeSideFiles may give.
std::vector<std::string_view> SideFileNames();

// config.json without auto_map, the tokenizer's files as in the checkpoint, generation_config.json
// with every id that ends a text (an addition is a decision of the plan), and the tokenizer's
// graphs.
//
// Throws   kInput: no tokenizer.json or config.json. kBadData: special ids that cannot be.
//          kUnsupported: a tokenizer that has no graph.
// Source   docs/formats/openvino.md "The folder".
std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, Plan& plan);

// Where the runtime's tokenizer does otherwise than the model's; MakeSideFiles adds it to the plan.
std::vector<Decision> TokenizerDecisions(const Model& model);

}  // namespace phiq::openvino
