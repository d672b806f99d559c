// One set of options for every command that evaluates, so that a threshold means the same in each.
#include "eval_flags.h"

#include <array>
#include <limits>
#include <utility>

#include "option_values.h"

namespace phiq::cli {

bool EvalFlags::any() const noexcept {
  return ctx || chunks || protocol || max_kl || max_kl_p999 || max_ppl_ratio || min_same_top;
}

void AddEvalFlags(CLI::App& command, const std::string& group, const std::string& threshold_group,
                  EvalFlags& flags) {
  const auto add = [&](const char* name, std::optional<std::string>& value, const char* text,
                       const char* description, const std::string& in) {
    command.add_option(name, value, description)->option_text(text)->group(in);
  };
  if (command.get_option_no_throw("--ctx") == nullptr)
    add("--ctx", flags.ctx, "N", "Tokens of a window; default 512", group);
  add("--chunks", flags.chunks, "N", "The first N windows only; default: all", group);
  add("--protocol", flags.protocol, "NAME",
      "What of a window is scored: llama.cpp (default), the second half\nas llama-perplexity does, "
      "or all",
      group);
  add("--max-kl", flags.max_kl, "X", "Mean KL divergence in nats", threshold_group);
  add("--max-kl-p999", flags.max_kl_p999, "X", "99.9 percentile of the KL divergence",
      threshold_group);
  add("--max-ppl-ratio", flags.max_ppl_ratio, "X", "Perplexity over that of the reference",
      threshold_group);
  add("--min-same-top", flags.min_same_top, "X",
      "Share of positions with the same best token, 0 to 1", threshold_group);
}

void ResolveEvalFlags(const EvalFlags& flags, EvalOptions& options) {
  constexpr std::uint32_t kMost = std::numeric_limits<std::int32_t>::max();
  constexpr double kLargest = 1e9;
  if (flags.ctx) options.n_ctx = ParseCount("--ctx", *flags.ctx, 4, kMost);
  if (flags.chunks) options.max_windows = ParseCount("--chunks", *flags.chunks, 1, kMost);
  options.protocol = ParseChoice<EvalProtocol, 2>(
      "--protocol", flags.protocol,
      {{{"llama.cpp", EvalProtocol::kLlamaCpp}, {"all", EvalProtocol::kAll}}});
  const auto set = [](const char* name, const std::optional<std::string>& text, double most,
                      std::optional<double>& limit) {
    if (text) limit = ParseNumber(name, *text, 0, most);
  };
  EvalThresholds& thresholds = options.thresholds;
  set("--max-kl", flags.max_kl, kLargest, thresholds.max_kl);
  set("--max-kl-p999", flags.max_kl_p999, kLargest, thresholds.max_kl_p999);
  set("--max-ppl-ratio", flags.max_ppl_ratio, kLargest, thresholds.max_ppl_ratio);
  set("--min-same-top", flags.min_same_top, 1, thresholds.min_same_top);
}

}  // namespace phiq::cli
