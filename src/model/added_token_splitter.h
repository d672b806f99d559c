// Cuts a text at the added tokens in it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "phiq/tokenizer.h"

namespace phiq {

// Bytes of white space (Unicode's) that `text` ends with.
std::size_t TrailingSpace(std::string_view text);

// Finds added tokens, leftmost first and the longest of those that begin at one place. Tokens with
// lstrip (rstrip) take the white space before (behind) them along.
class AddedTokenSplitter {
 public:
  // Requires  contents that are not empty.
  explicit AddedTokenSplitter(std::vector<AddedToken> tokens);

  // Hands over, in order, the stretches of text between tokens (none of them empty) and the ids.
  //
  // Cost     the length of the longest token for each byte of the text, at worst.
  // Threads  safe.
  void Split(std::string_view text, const std::function<void(std::string_view)>& use_stretch,
             const std::function<void(std::uint32_t)>& use_token) const;

 private:
  // The longest token that begins at text[0]; nullptr when there is none.
  const AddedToken* Match(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // sorted by content
  // By first byte: the range in tokens_.
  std::array<std::pair<std::size_t, std::size_t>, 256> ranges_{};
};

}  // namespace phiq
