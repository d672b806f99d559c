// The tokenizer's files: read from a checkpoint, copied beside a model, read from there.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "phiq/model.h"
#include "phiq/tokenizer.h"

namespace phiq {

inline constexpr std::string_view kTokenizerJson = "tokenizer.json";
inline constexpr std::string_view kTokenizerConfig = "tokenizer_config.json";

// What of a tokenizer is copied, when it is there.
std::span<const std::string_view> TokenizerFileNames() noexcept;

// Reads those that are there.
//
// `needed`  names that `runtime` cannot do without.
// Throws    kInput: one of them is missing, or the vocabulary, or a file cannot be read. kBadData:
//           larger than its limit.
std::vector<SideFile> ReadTokenizerFiles(const SideFiles& source,
                                         std::span<const std::string_view> needed,
                                         std::string_view runtime);

// The tokenizer of a model folder that holds its files as a checkpoint does.
//
// Throws    as ReadTokenizer.
Tokenizer ReadTokenizerBeside(const std::filesystem::path& folder, const ModelConfig& config,
                              const WarningFn& warn);

}  // namespace phiq
