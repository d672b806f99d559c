// Where `--html FILE` writes its page: a file, or standard output for "-".
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>

namespace phiq::cli {

class HtmlFile {
 public:
  void AddTo(CLI::App& command, const std::string& group = "");

  // Before any work: throws where Write could not write.
  // `json`   standard output is to carry a JSON object.
  // Throws   kUsage; kOutput as CheckReport does.
  void Check(bool json) const;

  bool is_wanted() const noexcept { return path_.has_value(); }
  bool is_standard_output() const noexcept { return path_ == "-"; }
  // Requires is_wanted().
  const std::string& path() const { return *path_; }
  // Throws   kOutput. Requires is_wanted().
  void Write(const std::string& page) const;

  // Where the command's table goes: to standard error when the page has standard output.
  std::FILE* table_stream() const noexcept { return is_standard_output() ? stderr : stdout; }

 private:
  std::optional<std::string> path_;
};

}  // namespace phiq::cli
