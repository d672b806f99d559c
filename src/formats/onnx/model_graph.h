// The Phi-3 architecture as an ONNX graph.
#pragma once

#include <onnx/onnx_pb.h>

#include <vector>

#include "formats/onnx/graph.h"
#include "formats/onnx/plan.h"

namespace phiq::onnx {

// Adds the whole graph for the plan's lines. Reads like the model: mask, rotary tables, embedding,
// then attention and MLP of each layer, then the head.
//
// Returns   the initializers; where their bytes stand is for the caller to say.
// Source    docs/formats/onnx.md.
std::vector<StoredTensor> BuildModelGraph(const ModelConfig& config, const GraphPlan& plan,
                                          ::onnx::GraphProto& graph);

}  // namespace phiq::onnx
