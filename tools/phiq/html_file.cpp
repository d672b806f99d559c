// One stream carries one thing: a page on standard output sends the table to standard error, as the
// report of a model on standard output goes there, and excludes --json.
#include "html_file.h"

#include "console.h"
#include "html_report.h"
#include "option_values.h"
#include "phiq/file.h"

namespace phiq::cli {

void HtmlFile::AddTo(CLI::App& command, const std::string& group) {
  CLI::Option* const option = command.add_option(
      "--html", path_,
      "Also write a report with plots, one page; - is standard output,\nand the table then goes to "
      "standard error");
  option->option_text("FILE");
  if (!group.empty()) option->group(group);
}

void HtmlFile::Check(bool json) const {
  if (!path_) return;
  ValueOf("--html", path_);
  if (is_standard_output()) {
    if (json)
      throw Wrong("--json", "standard output already carries the page")
          .Hint("give --html a file name");
    return;
  }
  ForOption("--html", [&] { CheckReport(*path_, kHtmlBeginning); });
}

void HtmlFile::Write(const std::string& page) const {
  if (is_standard_output()) return Print(stdout, page);
  ReplaceReport(*path_, page);
}

}  // namespace phiq::cli
