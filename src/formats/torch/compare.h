// Holds a folder against what phiq would write.
#pragma once

#include <string>
#include <vector>

#include "formats/torch/reader.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::torch {

// Everything but the weights' values, of a folder that phiq wrote: the files beside the weights,
// for encodings as they were found.
std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model);

}  // namespace phiq::torch
