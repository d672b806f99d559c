// The options about what a command says, and the hooks of the library that follow from them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/convert.h"
#include "progress.h"

namespace phiq::cli {

struct ReportFlags {
  bool json = false;
  bool quiet = false;
  bool verbose = false;  // of quantize and plan
  bool werror = false;
  bool no_progress = false;
};

constexpr const char* kReportGroup = "What is said";  // its heading in the help

// Adds --json, --quiet, --werror and --no-progress.
void AddReportFlags(CLI::App& command, ReportFlags& flags);

// How the checkpoint is read that something is compared with.
struct SourceFlags {
  std::vector<std::string> ignore_extra, adapters;
  std::optional<std::string> pad_vocab;
};
// Adds --ignore-extra, --adapter and --pad-vocab.
void AddSourceFlags(CLI::App& command, SourceFlags& flags);
// Throw    kUsage: an empty one.
const std::vector<std::string>& IgnoreExtra(const SourceFlags& flags);
const std::vector<std::string>& Adapters(const SourceFlags& flags);
std::optional<std::uint32_t> ParsePadVocab(const std::optional<std::string>& text);

// An option without a value; given twice it is an error.
CLI::Option* AddSwitch(CLI::App& command, const std::string& name, bool& value,
                       const std::string& description);

// An option with a value, which help calls `text`.
template <typename Variable>
CLI::Option* AddValue(CLI::App& command, const std::string& group, const std::string& name,
                      Variable& variable, std::string_view text, const std::string& description) {
  return command.add_option(name, variable, description)
      ->option_text(std::string(text))
      ->group(group);
}
// One that may be given several times, each with one value.
inline void AddList(CLI::App& command, const std::string& group, const std::string& name,
                    std::vector<std::string>& variable, std::string_view text,
                    const std::string& description) {
  AddValue(command, group, name, variable, text, description)->allow_extra_args(false)->take_all();
}

// Progress bar and warnings of one command, as its flags want them.
class Reporter {
 public:
  explicit Reporter(const ReportFlags& flags);
  Hooks hooks();  // refer to this object

 private:
  void Warn(const Warning& warning);

  const ReportFlags flags_;
  ProgressBar bar_;
};

}  // namespace phiq::cli
