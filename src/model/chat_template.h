// Where a checkpoint keeps its chat template. Templates are copied, never run.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "phiq/checkpoint.h"
#include "phiq/error.h"

namespace phiq {

struct ChatTemplates {
  std::string main;                                        // empty: none
  std::vector<std::pair<std::string, std::string>> named;  // name, text; without "default"
  bool empty() const noexcept { return main.empty() && named.empty(); }
};

// A template with every line end as "\n": Jinja reads "\r\n" and "\r" so, and runtimes that do not
// would put them into every prompt.
std::string WithPlainLineEnds(std::string text);

// chat_template.jinja and additional_chat_templates/NAME.jinja, or tokenizer_config.json
// (`tokenizer_config`, may be null), or chat_template.json: the first that has any. Lines end with
// "\n", as Jinja reads them.
//
// Warns    two files that differ; no template among several that is the default; a
//          template that uses what no chat template needs.
// Throws   kBadData: not a string or a list of named ones, larger than 1 MiB, not UTF-8, a NUL.
ChatTemplates ReadChatTemplates(const SideFiles& folder, const Json& tokenizer_config,
                                const WarningFn& warn);

}  // namespace phiq
