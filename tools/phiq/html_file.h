// Where `--html FILE` of eval and compare writes its page: a file, or standard output for "-".
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>

namespace phiq::cli {

class HtmlFile {
 public:
  void AddTo(CLI::App& command);

  // Before any work: throws where Write could not write.
  // `json`   standard output is to carry a JSON object.
  // Throws   kUsage; kOutput as CheckReport does.
  void Check(bool json) const;

  bool is_wanted() const noexcept { return path_.has_value(); }
  // Throws   kOutput. Requires is_wanted().
  void Write(const std::string& page) const;

  // Where the command's table goes: to standard error when the page has standard output.
  std::FILE* table_stream() const noexcept { return is_standard_output() ? stderr : stdout; }

 private:
  bool is_standard_output() const noexcept { return path_ == "-"; }

  std::optional<std::string> path_;
};

}  // namespace phiq::cli
