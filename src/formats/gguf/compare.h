// Holds the metadata of a file against what phiq would write.
#pragma once

#include <string>
#include <vector>

#include "formats/gguf/reader.h"
#include "phiq/model.h"

namespace phiq::gguf {

// Of phiq's own files and of llama.cpp's, which have the same metadata.
std::vector<std::string> FindDifferences(const File& file, const Model& source);

}  // namespace phiq::gguf
