// A GGUF file as a model: its metadata as a configuration, its tensors as weights.
#pragma once

#include <memory>

#include "formats/gguf/reader.h"
#include "stored/stored_model.h"

namespace phiq::gguf {

// Throws   kBadData: key, value found and allowed. kUnsupported: another architecture than phi3, a
//          tensor or setting that phiq's models do not have.
std::unique_ptr<StoredModel> MakeStoredModel(File file);

}  // namespace phiq::gguf
