// An MLX folder as a model that some file stores.
#pragma once

#include <memory>
#include <string>

#include "formats/mlx/reader.h"
#include "stored/stored_model.h"

namespace phiq::mlx {

// `path`   what messages call it.
std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path);

}  // namespace phiq::mlx
