// Text becomes ids with the model's own tokenizer; a file of ids serves models without one, and
// comparisons with programs that cut text otherwise.
#include "model/text_file.h"

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>

#include "base/limits.h"
#include "base/utf8.h"
#include "io/input_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

bool IsBetweenIds(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == '[' || c == ']';
}

}  // namespace

std::string ReadTextFile(const std::filesystem::path& path) {
  std::string text = ReadWholeFile(path, limits::kEvalTextBytes);
  if (text.empty()) throw Error(ErrorCode::kBadData, "the text is empty").In(path.string());
  if (const std::optional<std::size_t> bad = FindInvalidUtf8(text)) {
    throw Error(ErrorCode::kBadData,
                fmt::format("is not UTF-8: byte 0x{:02X}", static_cast<unsigned char>(text[*bad])))
        .In(path.string())
        .At(*bad)
        .Hint("iconv converts other encodings");
  }
  return text;
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
