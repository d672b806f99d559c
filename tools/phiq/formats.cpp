// phiq formats: what phiq writes, for people and for scripts.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "commands.h"
#include "console.h"
#include "phiq/format.h"
#include "phiq/profile.h"
#include "report_flags.h"
#include "table.h"

namespace phiq::cli {
namespace {

constexpr const char* kFormatsExamples = R"(Examples:
  phiq formats                               the list
  phiq formats --json | jq .formats         the same for programs
  phiq profiles --types                      all types of each

TYPE is what quantize writes there without --type and --precision.
ENDING is that of its file; / stands for a folder.)";

int ShowFormats(bool as_json) {
  std::vector<std::vector<std::string>> rows = {{"FORMAT", "TYPE", "ENDING", ""}};
  Json list;
  for (const std::string_view format : FormatNames()) {
    TargetRequest request;
    request.formats = {std::string(format)};
    const std::string type = ResolveTargets(request).front().type;
    const std::string_view ending = FileEnding(format);
    rows.push_back({std::string(format), type, ending.empty() ? "/" : std::string(ending),
                    std::string(FormatTitle(format))});
    if (!as_json) continue;
    list.push_back({{"name", format},
                    {"title", FormatTitle(format)},
                    {"type", type},
                    {"ending", ending},
                    {"is_folder", ending.empty()}});
  }
  if (as_json) {
    PrintJson(stdout, {{"formats", std::move(list)}});
  } else {
    Print(stdout, FormatTable("llll", rows));
  }
  return 0;
}

}  // namespace

void AddFormats(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("formats", "List the formats, with the usual type of each");
  const auto as_json = std::make_shared<bool>(false);
  AddSwitch(*command, "--json", *as_json, "As one JSON object");
  command->footer(kFormatsExamples);
  command->callback([&chosen, as_json] { chosen = [as_json] { return ShowFormats(*as_json); }; });
}

}  // namespace phiq::cli
