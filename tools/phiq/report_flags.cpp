// --json, --quiet, --verbose, --werror, --no-progress.
#include "report_flags.h"

#include <spdlog/spdlog.h>

#include "option_values.h"
#include "phiq/error.h"
#include "signals.h"

namespace phiq::cli {

CLI::Option* AddSwitch(CLI::App& command, const std::string& name, bool& value,
                       const std::string& description) {
  return command.add_flag(name, value, description)
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw)
      ->disable_flag_override();
}

void AddSourceFlags(CLI::App& command, SourceFlags& flags) {
  const auto list = [&](const char* name, std::vector<std::string>& values, const char* text,
                        const char* description) {
    command.add_option(name, values, description)
        ->option_text(text)
        ->allow_extra_args(false)
        ->take_all();
  };
  list("--ignore-extra", flags.ignore_extra, "GLOB",
       "Tensors that need no counterpart (repeatable)");
  list("--adapter", flags.adapters, "DIR",
       "LoRA adapter to merge into the checkpoint (repeatable, in this order)");
  command
      .add_option("--pad-vocab", flags.pad_vocab,
                  "Rows of the checkpoint's embedding and head up to a multiple of N")
      ->option_text("N");
}

const std::vector<std::string>& IgnoreExtra(const SourceFlags& flags) {
  return ValuesOf("--ignore-extra", flags.ignore_extra);
}

const std::vector<std::string>& Adapters(const SourceFlags& flags) {
  return ValuesOf("--adapter", flags.adapters);
}

std::optional<std::uint32_t> ParsePadVocab(const std::optional<std::string>& text) {
  constexpr std::uint32_t kMost = 1U << 20;
  if (!text) return std::nullopt;
  return ParseCount("--pad-vocab", *text, 1, kMost);
}

void AddReportFlags(CLI::App& command, ReportFlags& flags) {
  AddSwitch(command, "--json", flags.json, "Results and errors as one JSON object")
      ->group(kReportGroup);
  AddSwitch(command, "-q,--quiet", flags.quiet, "Print errors only")->group(kReportGroup);
  AddSwitch(command, "--no-progress", flags.no_progress, "No progress bar, even on a terminal")
      ->group(kReportGroup);
  AddSwitch(command, "--werror", flags.werror, "A warning ends the run (exit 3 or 9)")
      ->group(kReportGroup);
}

Reporter::Reporter(const ReportFlags& flags)
    : flags_(flags), bar_(!flags.quiet && !flags.json && !flags.no_progress) {
  if (flags.quiet && flags.verbose)
    throw Error(ErrorCode::kUsage, "--quiet and --verbose exclude each other");
  spdlog::set_level(flags.quiet     ? spdlog::level::err
                    : flags.verbose ? spdlog::level::info
                                    : spdlog::level::warn);
}

Hooks Reporter::hooks() {
  return {.progress = [this](const Progress& progress) { bar_.Draw(progress); },
          .warn = [this](const Warning& warning) { Warn(warning); },
          .stop_requested = StopRequested};
}

void Reporter::Warn(const Warning& warning) {
  if (flags_.werror) throw Error(warning.code, warning.text);
  bar_.Clear();
  spdlog::warn("{}", warning.text);
}

}  // namespace phiq::cli
