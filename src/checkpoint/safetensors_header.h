// The header of one safetensors file: what it says, checked against the size of the file.
// docs/formats/safetensors.md gives the rules; there is no lenient mode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.h"
#include "phiq/checkpoint.h"

namespace phiq {

// How much of a file's start SafetensorsHeaderBytes wants to see, if the file has that much.
inline constexpr std::size_t kSafetensorsSniffBytes = 64;

// The header's length, from the first bytes of a file.
//
// Throws   kBadData: too short, a length outside the limits or past the end of the file; or what
//          the file is instead (a Git LFS pointer, an HTML page, a zip, a pickle).
std::uint64_t SafetensorsHeaderBytes(std::string_view first_bytes, std::uint64_t file_size,
                                     std::string_view path);

struct SafetensorsHeader {
  // Sorted by (BEGIN, END), so that empty ones come before the tensor that begins at the same byte.
  // offset_bytes counts from the start of the file; shard is 0.
  std::vector<SourceTensor> tensors;
  std::map<std::string, std::string> metadata;  // __metadata__
};

// Throws   kBadData.
SafetensorsHeader ParseSafetensorsHeader(std::string_view header, std::uint64_t file_size,
                                         std::string_view path);

// Both of the above, with one positioned read for the header.
SafetensorsHeader ReadSafetensorsHeader(const InputFile& file);

}  // namespace phiq
