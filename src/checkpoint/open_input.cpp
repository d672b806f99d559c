// Hints for files that do not open, and sorted folder listings.
#include "checkpoint/open_input.h"

#include <fmt/format.h>

#include <system_error>

#include "io/system.h"
#include "phiq/text.h"

namespace phiq {

namespace fs = std::filesystem;

std::string DownloadHint(const fs::path& path) {
  std::error_code failure;
  const fs::path target = fs::read_symlink(path, failure);
  // errors other than a missing target (a loop, no permission) have nothing to do with downloads
  if (failure || fs::status(path, failure).type() != fs::file_type::not_found) return "";
  const fs::path partial = path.parent_path() / (target.native() + ".incomplete");
  if (fs::exists(partial, failure)) {
    return fmt::format("interrupted download? {}.incomplete is there; download the model again",
                       Escape(target.filename().native()));
  }
  return "interrupted download? download the model again";
}

std::vector<std::string> NamesInFolder(const fs::path& folder) {
  return NamesIn(folder, ErrorCode::kInput);
}

}  // namespace phiq
