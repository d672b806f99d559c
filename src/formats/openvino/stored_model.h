// An OpenVINO folder as a model.
#pragma once

#include <memory>
#include <string>

#include "formats/openvino/reader.h"
#include "stored/stored_model.h"

namespace phiq::openvino {

// Of folders that phiq wrote: the graph is held to what config.json beside it means, so that
// computing by the configuration is computing what the graph does; epsilon, window and what turns
// positions come from the graph's own constants.
//
// Throws   kUnsupported: another tool's folder. kBadData: a graph that is not what config.json
//          means, naming the layer.
std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path,
                                             const WarningFn& warn);

}  // namespace phiq::openvino
