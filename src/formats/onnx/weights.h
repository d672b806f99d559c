// Which initializers are weights, told by the operators that use them.
#pragma once

#include <vector>

#include "formats/onnx/reader.h"
#include "phiq/error.h"

namespace phiq::onnx {

// In the order of the nodes; a weight that two nodes share is there once.
//
// Throws   kBadData: an operator's attributes and the sizes of its arrays do not agree.
// kUnsupported:
//          bits, zero points or layouts that phiq does not do. Operators whose inputs are computed
//          or undefined are left out.
// Warns    initializers of some size that no weight has.
std::vector<Weight> FindWeights(const Folder& folder, const WarningFn& warn);

// Initializers and constants of all graphs whose names begin as rotary tables' do.
std::vector<Table> FindTables(const Folder& folder);

}  // namespace phiq::onnx
