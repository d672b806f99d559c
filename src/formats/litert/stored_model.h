// A LiteRT file as every command sees a model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "phiq/error.h"
#include "stored/stored_model.h"

namespace phiq::litert {

// True for a file named *.litertlm or *.tflite, or that begins as one.
bool LooksLikeLiteRt(const std::filesystem::path& path);

// Reads the header, the tables and the small files of a bundle; weights when they are asked for.
//
// Throws   as File::Open.
std::unique_ptr<StoredModel> OpenModel(const std::string& path, const WarningFn& warn);

}  // namespace phiq::litert
