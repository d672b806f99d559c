// What a file is when it is not what its name says: what downloads and copies leave in its place.
#pragma once

#include <cstdint>
#include <string_view>

namespace phiq {

inline constexpr std::string_view kDownloadAgain = "download this file again";

struct Lookalike {
  std::string_view prefix;  // what such a file begins with, after white space
  std::string_view what, hint;
};

// What a file that should be safetensors is instead; nullptr: nothing that is known.
const Lookalike* FindWeightsLookalike(std::string_view first_bytes) noexcept;

// What any file is instead, whatever it should be: a pointer, a page, an archive.
const Lookalike* FindLookalike(std::string_view first_bytes) noexcept;

// Throws   kBadData: a file beside the weights (JSON, a template, SentencePiece's model) is a Git
//          LFS pointer, the text of a link, an HTML page, an archive or UTF-16 text; or it is
//          empty, which others may be. Reads the first bytes alone.
void CheckSideFile(std::string_view first_bytes, std::uint64_t size_bytes, std::string_view path);

}  // namespace phiq
