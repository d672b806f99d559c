// How models are evaluated: the options that `eval` and `quantize --eval-text` share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "phiq/evaluate.h"

namespace phiq::cli {

struct EvalFlags {
  std::optional<std::string> ctx, chunks, protocol;
  std::optional<std::string> max_kl, max_kl_p999, max_ppl_ratio, min_same_top;
  bool any() const noexcept;
};

// Adds --ctx (unless the command has it already), --chunks and --protocol, then the thresholds.
void AddEvalFlags(CLI::App& command, const std::string& group, const std::string& threshold_group,
                  EvalFlags& flags);

// Sets what the flags mean; the models and the text are the command's own.
// Throws   kUsage, naming the option.
void ResolveEvalFlags(const EvalFlags& flags, EvalOptions& options);

}  // namespace phiq::cli
