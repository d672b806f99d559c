// Holds a folder against what phiq would write.
#pragma once

#include <string>
#include <vector>

#include "formats/mlx/reader.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::mlx {

// Everything but the weights' values, of a folder that phiq wrote: the index and the files beside
// it, for encodings as they were found.
std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model);

}  // namespace phiq::mlx
