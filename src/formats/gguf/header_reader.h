// Reads and checks the header of one GGUF file.
#pragma once

#include <vector>

#include "formats/gguf/reader.h"
#include "formats/gguf/value.h"
#include "io/input_file.h"
#include "phiq/error.h"

namespace phiq::gguf {

struct Header {
  Metadata metadata;
  std::vector<Tensor> tensors;  // `part` is 0; every byte range lies inside the file
};

// Throws   as File::Open. Warns: bytes after the last tensor.
Header ReadHeader(const InputFile& file, const WarningFn& warn);

}  // namespace phiq::gguf
