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

// A parsed template. Statements: for, if, set. Expressions: literals, names, members and items,
// slices, arithmetic, comparisons, `in`, `is`, `x if c else y`, and the filters, tests and methods
// that render_chat.cpp lists. No template can reach anything but its variables.
class ChatTemplate {
 public:
  // `path`   where the template comes from, for messages.
  // Throws   kUnsupported, naming line and construct: anything else. kBadData: no valid Jinja.
  ChatTemplate(std::string_view text, std::string path);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // The text of these messages ([{"role": ..., "content": ...}, ...]), without a prompt for one
  // more answer, as transformers' apply_chat_template(tokenize=False) gives it.
  //
  // `variables`   what else the template sees: "eos_token", ...; names that are missing are
  // undefined. Limits   steps and length of the text grow with those of the messages at most.
  // Throws   kBadData: what raise_exception says; an operand of a wrong type. kUnsupported: a
  // limit.
  std::string Render(const Json& messages,
                     const std::vector<std::pair<std::string, std::string>>& variables) const;

 private:
  struct Body;
  std::unique_ptr<const Body> body_;
};

// The special tokens that templates know by name: "bos_token", "eos_token", "unk_token", ...
std::vector<std::pair<std::string, std::string>> ChatVariables(const Tokenizer& tokenizer);

}  // namespace phiq
