// Texts and lists of token ids that users give.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

#include "io/input_file.h"

namespace phiq {

// A file of UTF-8 text, of which a piece at a time is in memory.
class TextFile {
 public:
  // Throws   kInput; kBadData: empty.
  explicit TextFile(const std::filesystem::path& path);

  // Where text may be cut, at most at that place; 0: nowhere.
  using CutFn = std::function<std::size_t(std::string_view text, std::size_t at_most)>;
  // Calls use(piece, is_rest) for pieces that are the text, one behind the other: a quarter of a
  // megabyte, and more where it may not be cut.
  //
  // Throws   kBadData: the offset of the first byte that is not UTF-8. kTryAgain.
  void ForEachPiece(const CutFn& cut,
                    const std::function<void(std::string_view piece, bool is_rest)>& use) const;

 private:
  InputFile file_;
};

// A file of token ids: whole numbers with white space, commas or brackets between them.
// Throws   kBadData: empty, or the offset of what is no id; kInput.
std::vector<std::uint32_t> ReadIdsFile(const std::filesystem::path& path);

}  // namespace phiq
