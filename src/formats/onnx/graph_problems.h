// What makes a graph senseless although its file can be read.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>
#include <vector>

namespace phiq::onnx {

// Names that nothing defines, names with two definitions, cycles; in the graph and those inside its
// nodes. At most limits::kOnnxProblems lines, then one that counts the rest.
std::vector<std::string> FindProblems(const ::onnx::GraphProto& graph);

}  // namespace phiq::onnx
