// Hints for files that do not open, and sorted folder listings.
#include "checkpoint/open_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

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
  std::vector<std::string> names;
  std::error_code failure;
  fs::directory_iterator it(folder, failure);
  for (const fs::directory_iterator end; !failure && it != end; it.increment(failure)) {
    names.push_back(it->path().filename().native());
  }
  if (failure) throw Error(ErrorCode::kInput, failure.message()).In(folder.native());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace phiq
