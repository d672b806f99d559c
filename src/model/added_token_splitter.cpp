// One automaton for all added tokens: a search for each would take their number times the text.
#include "model/added_token_splitter.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/utf8.h"

namespace phiq {
namespace {

std::size_t Byte(char c) { return static_cast<unsigned char>(c); }

// Unicode's White_Space.
bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Bytes of white space that `text` begins with.
std::size_t LeadingSpace(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size()) {
    const std::optional<CodePoint> point = DecodeUtf8(text, end);
    if (!point || !IsWhiteSpace(point->value)) break;
    end += point->n_bytes;
  }
  return end;
}

}  // namespace

std::size_t TrailingSpace(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0) {
    std::size_t previous = begin - 1;
    while (previous > 0 && (Byte(text[previous]) & 0xC0U) == 0x80U) --previous;
    const std::optional<CodePoint> point = DecodeUtf8(text, previous);
    if (!point || !IsWhiteSpace(point->value)) break;
    begin = previous;
  }
  return text.size() - begin;
}

AddedTokenSplitter::AddedTokenSplitter(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  std::ranges::sort(tokens_, {}, &AddedToken::content);
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    auto& [begin, end] = ranges_[Byte(tokens_[i].content.front())];
    if (begin == end) begin = i;
    end = i + 1;
  }
}

const AddedToken* AddedTokenSplitter::Match(std::string_view text) const {
  auto [begin, end] = ranges_[Byte(text.front())];
  const AddedToken* longest = nullptr;
  // Before each round [begin, end) are the tokens that share their first `length` bytes with the
  // text; the shortest of them comes first.
  for (std::size_t length = 1; begin < end; ++length) {
    if (tokens_[begin].content.size() == length) longest = &tokens_[begin++];
    if (length == text.size()) break;
    const auto next = std::ranges::equal_range(
        tokens_.begin() + static_cast<std::ptrdiff_t>(begin),
        tokens_.begin() + static_cast<std::ptrdiff_t>(end), Byte(text[length]), {},
        [length](const AddedToken& token) { return Byte(token.content[length]); });
    begin = static_cast<std::size_t>(next.begin() - tokens_.begin());
    end = static_cast<std::size_t>(next.end() - tokens_.begin());
  }
  return longest;
}

void AddedTokenSplitter::Split(std::string_view text,
                               const std::function<void(std::string_view)>& use_stretch,
                               const std::function<void(std::uint32_t)>& use_token) const {
  std::size_t done = 0;       // text before it has been handed over
  std::size_t space_end = 0;  // of the last white space that was looked through
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = Match(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t end = at;  // of the stretch before the token
    if (token->lstrip && end > done) end -= TrailingSpace(text.substr(done, end - done));
    // A token may begin with white space that the one before it has swallowed: then end < done.
    if (end > done) use_stretch(text.substr(done, end - done));
    use_token(token->id);
    at += token->content.size();
    done = at;
    if (!token->rstrip) continue;
    // Tokens that are white space may follow each other in one run of it: it is read once.
    if (at >= space_end) space_end = at + LeadingSpace(text.substr(at));
    done = space_end;
  }
  if (done < text.size()) use_stretch(text.substr(done));
}

}  // namespace phiq
