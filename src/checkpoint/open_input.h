// Opening the files of a checkpoint, with what a broken download leaves behind in mind.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/input_file.h"
#include "phiq/error.h"

namespace phiq {

// What can be said about a file that does not open: a link of the hub cache whose content never
// came. "" when there is nothing to say.
std::string DownloadHint(const std::filesystem::path& path);

// Runs open() and adds DownloadHint(path) to the error that it throws.
template <typename Open>
auto WithDownloadHint(const std::filesystem::path& path, const Open& open) -> decltype(open()) {
  try {
    return open();
  } catch (Error& error) {
    const std::string hint = error.code() == ErrorCode::kInput ? DownloadHint(path) : "";
    if (hint.empty()) throw;
    throw std::move(error).Hint(hint);
  }
}

// The names in a folder, sorted: the order of a file system must not show anywhere.
// Throws   kInput: it cannot be read.
std::vector<std::string> NamesInFolder(const std::filesystem::path& folder);

}  // namespace phiq
