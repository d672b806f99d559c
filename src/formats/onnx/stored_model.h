// An ONNX folder as a model: sizes from its graph and genai_config.json, positions from its rotary
// tables.
#pragma once

#include <memory>
#include <string>

#include "formats/onnx/reader.h"
#include "stored/stored_model.h"

namespace phiq::onnx {

// `path`   as the user gave it.
// Throws   kBadData: node or key, value found and allowed; weights, graph and genai_config.json
// that
//          do not agree. kUnsupported: a graph that is no Phi model as phiq or onnxruntime-genai's
//          builder write it.
std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path);

}  // namespace phiq::onnx
