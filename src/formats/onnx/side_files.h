// The small files beside the graph: genai_config.json and the tokenizer's.
#pragma once

#include <vector>

#include "formats/onnx/plan.h"
#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::onnx {

// genai_config.json, and the tokenizer's files, copied but for the keys of tokenizer_config.json
// that onnxruntime-genai cannot read; each change is a decision of the plan.
//
// Throws   kInput: no tokenizer.json or tokenizer_config.json. kBadData: special ids that cannot
// be. Source   docs/formats/onnx.md "The folder".
std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, GraphPlan& plan);

// Where the runtime's tokenizer does otherwise than the model's; MakeSideFiles adds it to the plan.
std::vector<Decision> TokenizerDecisions(const Model& model);

}  // namespace phiq::onnx
