// Errors with the operating system's own words.
#include "io/system.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <system_error>

namespace phiq {

Error SystemError(ErrorCode code, const std::filesystem::path& path, std::string_view what,
                  int number) {
  const bool exhausted = number == EMFILE || number == ENFILE || number == ENOMEM;
  std::string message(what);
  if (!message.empty()) message += ": ";
  message += std::generic_category().message(number);
  return Error(exhausted ? ErrorCode::kResources : code, std::move(message)).In(path.native());
}

bool Stands(const std::filesystem::path& path, ErrorCode code) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  throw SystemError(code, path, "", errno);
}

std::vector<std::string> NamesIn(const std::filesystem::path& folder, ErrorCode code) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
  if (!dir) throw SystemError(code, folder, "cannot be listed", errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) throw SystemError(code, folder, "cannot be listed", errno);
  std::ranges::sort(names);
  return names;
}

}  // namespace phiq
