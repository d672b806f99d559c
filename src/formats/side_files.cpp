#include "formats/side_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "base/limits.h"
#include "io/input_file.h"

namespace phiq {
namespace {

bool IsThere(const std::filesystem::path& path) {
  std::error_code failed;
  return std::filesystem::exists(path, failed);
}

}  // namespace

std::vector<std::byte> BytesOf(std::string_view text) {
  const std::span<const std::byte> view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

std::string_view TextOf(const SideFile& file) noexcept {
  return {reinterpret_cast<const char*>(file.content.data()), file.content.size()};
}

std::vector<std::string> CompareBytes(const SideFile& expected, std::string_view found) {
  if (found == TextOf(expected)) return {};
  return {fmt::format("{} differs from what the source gives", expected.name)};
}

std::vector<std::string> CompareSideFiles(std::span<const SideFile> expected,
                                          std::span<const std::string_view> possible,
                                          const std::filesystem::path& folder,
                                          const SideFileComparison& compare) {
  std::vector<std::string> problems;
  for (const SideFile& file : expected) {
    const std::filesystem::path path = folder / file.name;
    if (!IsThere(path)) {
      problems.push_back(fmt::format("{} is missing", file.name));
      continue;
    }
    // The largest limit of any of them.
    const std::string found = ReadWholeFile(path, limits::kTokenizerJsonBytes);
    const std::vector<std::string> differences = compare(file, found);
    problems.insert(problems.end(), differences.begin(), differences.end());
  }
  for (const std::string_view name : possible) {
    if (std::ranges::find(expected, name, &SideFile::name) == expected.end() &&
        IsThere(folder / name))
      problems.push_back(fmt::format("{} has no counterpart in the source", name));
  }
  return problems;
}

}  // namespace phiq
