// Holds a folder's graph and small files against those that the source gives.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "formats/onnx/plan.h"
#include "formats/onnx/reader.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::onnx {

// True when phiq wrote the folder: its graph is then known node by node.
bool IsOurs(const Folder& folder);

// The value of a key of metadata_props; empty when it is not there.
std::string Property(const Folder& folder, std::string_view key);

// Nodes, inputs, outputs and initializers that differ from the graph of the source, and side files
// that do. genai_config.json may have other search and session options: users tune them.
std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const phiq::Model& model);

}  // namespace phiq::onnx
