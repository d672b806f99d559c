// llama.cpp's importance matrices, in both their forms: GGUF files without a model, and the older
// ones called `.dat`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/importance.h"

namespace phiq::gguf {

// As ReadImportance. Means are those of llama-quantize, bit for bit.
// Source   docs/formats/imatrix.md.
Importance ReadImatrix(const std::string& path, const Model& model, const WarningFn& warn);

// As EncodeImportance.
std::vector<std::byte> EncodeImatrix(ImportanceForm form, std::span<const InputSquares> inputs,
                                     std::span<const std::string> datasets,
                                     std::uint32_t chunk_size);

}  // namespace phiq::gguf
