// Small files are compared as bytes, and read only as far as they may be long.
#include "formats/side_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "base/json.h"
#include "base/limits.h"
#include "io/input_file.h"

namespace phiq {
namespace {

bool IsThere(const std::filesystem::path& path) {
  std::error_code failed;
  return std::filesystem::exists(path, failed);
}

bool IsFinite(const Json& value) {
  if (value.is_number()) return std::isfinite(value.get<double>());
  return std::ranges::all_of(value, IsFinite) &&
         std::ranges::all_of(value.members(), IsFinite, &JsonMember::value);
}

}  // namespace

std::vector<std::byte> BytesOf(std::string_view text) {
  const std::span<const std::byte> view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

std::string_view TextOf(const SideFile& file) noexcept {
  return {reinterpret_cast<const char*>(file.content.data()), file.content.size()};
}

std::string PortableJson(std::string text, std::string_view path) {
  Json json = ParseJson(text, path);
  std::vector<std::string> odd;
  for (const auto& [key, value] : json.members())
    if (!IsFinite(value)) odd.push_back(key);
  if (odd.empty()) return text;
  for (const std::string& key : odd) json.erase(key);
  return json.dump(2) + "\n";
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
