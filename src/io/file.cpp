// A report is written whole or not at all, under the rules for outputs.
#include "phiq/file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <system_error>

#include "io/output_file.h"
#include "io/recovery.h"
#include "io/temporaries.h"
#include "phiq/error.h"

namespace phiq {

namespace fs = std::filesystem;

void CheckReport(const std::string& path, std::string_view beginning) {
  const auto refuse = [&](const char* why) { return Error(ErrorCode::kOutput, why).In(path); };
  const fs::path folder = ParentFolder(path);
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) throw refuse("its folder does not exist");
  if (::access(folder.c_str(), W_OK) != 0) throw refuse(std::strerror(errno));
  const fs::file_status status = fs::status(path, ignored);
  if (!fs::exists(status)) return;
  if (!fs::is_regular_file(status)) throw refuse("is not a regular file");
  std::ifstream in(path, std::ios::binary);
  std::string found(beginning.size(), '\0');
  in.read(found.data(), static_cast<std::streamsize>(found.size()));
  if (found == beginning) return;
  throw refuse("not replaced: this file is no report").Hint("choose another name");
}

void ReplaceReport(const std::string& path, std::string_view content) {
  RecoverFolder(ParentFolder(path));
  OutputFile file(path, content.size(), {.force = true, .fsync = false});
  file.WriteAt(0, std::as_bytes(std::span(content)));
  file.Commit();
}

}  // namespace phiq
