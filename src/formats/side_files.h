// The small files beside a model: whole in memory, and compared with those of a folder.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace phiq {

// A small file of an output, whole.
struct SideFile {
  std::string name;
  std::vector<std::byte> content;
};
std::vector<std::byte> BytesOf(std::string_view text);
std::string_view TextOf(const SideFile& file) noexcept;

// The text of a JSON file, as it is unless it holds NaN or Infinity, which Python's tools write and
// the readers of other runtimes do not take: the members that hold them are left out then, as if
// they had no value.
std::string PortableJson(std::string text, std::string_view path);

// How the text of a side file differs from the expected, a line for each difference.
using SideFileComparison =
    std::function<std::vector<std::string>(const SideFile& expected, std::string_view found)>;

// In any byte.
std::vector<std::string> CompareBytes(const SideFile& expected, std::string_view found);

// What differs between `expected` and the files of `folder`: those that are missing, whose text
// differs, or that stand there under one of the names `possible` and are not expected.
//
// Throws   kInput: a file that cannot be read. kBadData: larger than any side file may be.
std::vector<std::string> CompareSideFiles(std::span<const SideFile> expected,
                                          std::span<const std::string_view> possible,
                                          const std::filesystem::path& folder,
                                          const SideFileComparison& compare = CompareBytes);

}  // namespace phiq
