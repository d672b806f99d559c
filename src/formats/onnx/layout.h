// The folder that onnxruntime-genai loads, with every byte's place decided.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/layout.h"
#include "formats/onnx/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::onnx {

inline constexpr std::string_view kModelFile = "model.onnx";
inline constexpr std::string_view kDataFile = "model.onnx.data";
inline constexpr std::string_view kConfigFile = "genai_config.json";

// Every name that phiq may give a file in such a folder.
std::vector<std::string> OwnedFiles();

// The version of the file format and the operator sets that every model of ours has.
void SetVersions(::onnx::ModelProto& model);

// `plan`        decisions about the tokenizer's files are added to it.
// Throws   kInput: no tokenizer.json or tokenizer_config.json. kBadData: what they or
//          generation_config.json say cannot be.
OutputLayout MakeLayout(const SideFiles& files, const Model& model, GraphPlan& plan);

}  // namespace phiq::onnx
