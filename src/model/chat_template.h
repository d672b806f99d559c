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
};

// chat_template.jinja, then tokenizer_config.json (`tokenizer_config`, may be null), then
// chat_template.json.
//
// Warns    two files that differ; a template that uses what no chat template needs.
// Throws   kBadData: not a string or a list of named ones, larger than 1 MiB, not UTF-8, a NUL.
ChatTemplates ReadChatTemplates(const CheckpointFolder& folder, const Json& tokenizer_config,
                                const WarningFn& warn);

}  // namespace phiq
