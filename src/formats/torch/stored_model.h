// A folder of compressed-tensors, GPTQ or AWQ as a model that some file stores.
#pragma once

#include <memory>
#include <string>

#include "formats/torch/reader.h"
#include "stored/stored_model.h"

namespace phiq::torch {

// `path`   what messages call it.
std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path);

}  // namespace phiq::torch
