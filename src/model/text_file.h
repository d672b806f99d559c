// Texts and lists of token ids that users give.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace phiq {

// A file of UTF-8 text.
// Throws   kBadData: empty, or the offset of the first byte that is not UTF-8; kInput.
std::string ReadTextFile(const std::filesystem::path& path);

// A file of token ids: whole numbers with white space, commas or brackets between them.
// Throws   kBadData: empty, or the offset of what is no id; kInput.
std::vector<std::uint32_t> ReadIdsFile(const std::filesystem::path& path);

}  // namespace phiq
