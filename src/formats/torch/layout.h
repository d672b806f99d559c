// The folder that transformers and vLLM load, with every byte's place decided.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/layout.h"
#include "formats/order.h"
#include "formats/torch/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::torch {

// A tensor of a quantized weight, as its box has it.
struct BoxTensor {
  std::string_view suffix;  // behind the module's name and a dot: "weight_packed"
  DType dtype = DType::kI32;
  std::vector<std::uint64_t> shape;
  Order order;  // of an array of the encoding
};

// The tensors of the arrays of a weight's encoding, array by array.
//
// Requires  rows and columns that make whole words (FitToShape of the plan).
std::vector<BoxTensor> ArraysOf(Box box, const GroupEncoding& codes, std::uint64_t n_rows,
                                std::uint64_t n_columns);
// Tensors of it that say nothing of the weights' values, as words of 32 bits.
struct ConstantTensor {
  BoxTensor tensor;
  std::uint64_t n_words = 0;
  std::function<std::uint32_t(std::uint64_t i)> word;
};
// `is_less_one`  of Box::kGptq: whether zero points are stored less 1, as in the first version of
//                that format.
std::vector<ConstantTensor> ConstantsOf(Box box, const GroupEncoding& codes, std::uint64_t n_rows,
                                        std::uint64_t n_columns, bool is_less_one = true);

// Every name that phiq may give a file in such a folder.
std::vector<std::string> OwnedFiles(const SideFiles& files);

// `plan`        decisions about the small files are added to it.
// Throws   as MakeSideFiles and safetensors::PlaceTensors.
OutputLayout MakeLayout(const SideFiles& files, const Model& model, FolderPlan& plan);

// The content of model.safetensors.index.json; "": one file needs none.
std::string MakeIndex(const FolderPlan& plan);

}  // namespace phiq::torch
