// Text becomes ids with the model's own tokenizer; a file of ids serves models without one, and
// comparisons with programs that cut text otherwise.
#include "model/text_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>

#include "base/limits.h"
#include "base/utf8.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::size_t kPieceBytes = 1U << 18;

bool IsBetweenIds(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == '[' || c == ']';
}

}  // namespace

TextFile::TextFile(const std::filesystem::path& path) : file_(path) {
  if (file_.size() == 0) throw Error(ErrorCode::kBadData, "the text is empty").In(path.string());
}

void TextFile::ForEachPiece(
    const CutFn& cut, const std::function<void(std::string_view piece, bool is_rest)>& use) const {
  std::string text;
  std::size_t wanted = kPieceBytes;
  for (std::uint64_t begin = 0; begin < file_.size();) {
    const std::size_t there = text.size();
    text.resize(static_cast<std::size_t>(std::min<std::uint64_t>(wanted, file_.size() - begin)));
    file_.ReadAt(begin + there, std::as_writable_bytes(std::span(text)).subspan(there));
    const bool is_end = begin + text.size() == file_.size();
    const std::size_t end = is_end ? text.size() : cut(text, text.size() - 1);
    if (end == 0) {
      wanted = 2 * text.size();
      continue;
    }
    const std::string_view piece = std::string_view(text).substr(0, end);
    if (const std::optional<std::size_t> bad = FindInvalidUtf8(piece)) {
      throw Error(ErrorCode::kBadData, fmt::format("is not UTF-8: byte 0x{:02X}",
                                                   static_cast<unsigned char>(piece[*bad])))
          .In(file_.path().string())
          .At(begin + *bad)
          .Hint("iconv converts other encodings");
    }
    use(piece, begin > 0);
    text.erase(0, end);
    begin += end;
    wanted = std::max(kPieceBytes, 2 * text.size());
  }
  file_.CheckUnchanged();
}

std::vector<std::uint32_t> ReadIdsFile(const std::filesystem::path& path) {
  const std::string text = ReadWholeFile(path, limits::kEvalTextBytes);
  std::vector<std::uint32_t> ids;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    if (IsBetweenIds(*at)) {
      ++at;
      continue;
    }
    std::uint32_t id = 0;
    const auto [rest, failed] = std::from_chars(at, end, id);
    if (failed != std::errc() || (rest != end && !IsBetweenIds(*rest))) {
      const char* word_end = at;
      while (word_end != end && !IsBetweenIds(*word_end)) ++word_end;
      throw Error(
          ErrorCode::kBadData,
          fmt::format("'{}' is no token id", Escape({at, static_cast<std::size_t>(word_end - at)})))
          .In(path.string())
          .At(static_cast<std::uint64_t>(at - text.data()))
          .Hint("whole numbers with white space between them");
    }
    ids.push_back(id);
    at = rest;
  }
  if (ids.empty()) throw Error(ErrorCode::kBadData, "holds no token ids").In(path.string());
  return ids;
}

}  // namespace phiq
