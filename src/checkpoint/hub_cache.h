// Where huggingface_hub keeps what it downloaded. Only read; never written.
// docs/formats/safetensors.md "The hub cache".
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "phiq/error.h"

namespace phiq {

// "organisation/name" (or "name") as the hub allows it.
bool IsRepositoryId(std::string_view text);

// The cache's folder, from HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or HOME;
// empty when none of them is set, or one begins with "~" and HOME is not set.
std::filesystem::path HubCacheRoot();

// The snapshot folder of a repository's main revision.
//
// Requires IsRepositoryId(id).
// Throws   kInput: nothing of it there, naming the place and the repository that may be meant, or
//          the download command.
//          kBadData: refs/main is no commit id.
std::filesystem::path FindSnapshot(const std::string& id, const WarningFn& warn);

// "organisation/name" (or "name") of the repository when `folder`, an absolute path, is a snapshot
// in a cache; else "".
std::string RepositoryIdOf(const std::filesystem::path& folder);

}  // namespace phiq
