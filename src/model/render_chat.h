// Renders messages through a chat template: the part of Jinja that the templates of Phi models use.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "phiq/tokenizer.h"

namespace phiq {

// A parsed template, as transformers sets Jinja up (trim_blocks and lstrip_blocks). It can reach
// nothing but its variables, and whatever it says ends soon.
//
// Statements   for, if, elif, else, set, generation.
// Expressions  literals, names, members, items and slices, + - % ~, comparisons, in, and, or, not,
//              `x if c else y`; raise_exception(text); the tests, filters and methods that
//              jinja.cpp lists.
class ChatTemplate {
 public:
  // Throws   kUnsupported, naming line and construct: anything else. kBadData: no Jinja.
  explicit ChatTemplate(std::string_view text);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // The text of these messages ([{"role": ..., "content": ...}, ...]), without a prompt for one
  // more answer, as transformers' apply_chat_template(tokenize=False) gives it.
  //
  // `variables`   what else the template sees: "eos_token", ...; other names are undefined.
  // Throws   kBadData, naming the line: what raise_exception says, operands of wrong types.
  //          kUnsupported: more than 2^24 steps and bytes.
  std::string Render(const Json& messages,
                     const std::vector<std::pair<std::string, std::string>>& variables) const;

 private:
  struct Body;
  std::unique_ptr<const Body> body_;
};

// The special tokens that templates know by name: "bos_token", "eos_token", ...
std::vector<std::pair<std::string, std::string>> ChatVariables(const Tokenizer& tokenizer);

}  // namespace phiq
