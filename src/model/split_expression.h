// The expression by which a byte-level tokenizer splits text into words.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "phiq/tokenizer.h"

namespace phiq {

// The expression that GGUF and other formats only name. Empty for kNone.
std::string_view KnownExpression(PreTokenizer pre_tokenizer) noexcept;

// A compiled expression. PCRE2 runs it; \s is Unicode's White_Space, as in the engines of the
// tokenizers library, where PCRE2's own has U+180E too.
class SplitExpression {
 public:
  // Throws   kUnsupported: PCRE2 does not take the expression.
  explicit SplitExpression(std::string_view expression);
  SplitExpression(SplitExpression&&) noexcept;
  SplitExpression& operator=(SplitExpression&&) noexcept;
  ~SplitExpression();

  // Calls `use` with begin and end of every match that is not empty, in order; they do not overlap.
  //
  // Requires  valid UTF-8.
  // Throws    kUnsupported: matching takes many times longer than any known expression does, or
  //           fails.
  // Threads   safe.
  void ForEachMatch(std::string_view text,
                    const std::function<void(std::size_t begin, std::size_t end)>& use) const;

 private:
  struct Compiled;
  std::unique_ptr<const Compiled> compiled_;
};

}  // namespace phiq
