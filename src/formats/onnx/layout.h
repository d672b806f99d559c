// The folder that onnxruntime-genai loads, with every byte's place decided.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/layout.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::onnx {

inline constexpr std::string_view kModelFile = "model.onnx";
inline constexpr std::string_view kDataFile = "model.onnx.data";
inline constexpr std::string_view kConfigFile = "genai_config.json";

// Every name that phiq may give a file in such a folder.
std::vector<std::string> OwnedFiles();

// `plan`        decisions about the tokenizer's files are added to it.
// `nan_zeroed`  recorded in the model: --nan zero was given.
// Throws   kInput: no tokenizer.json or tokenizer_config.json. kBadData: what they or
//          generation_config.json say cannot be.
OutputLayout MakeLayout(const CheckpointFolder& folder, const Model& model, Plan& plan,
                        bool nan_zeroed);

}  // namespace phiq::onnx
