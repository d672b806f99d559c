// Where huggingface_hub keeps what it downloaded. Only read; never written.
// docs/formats/safetensors.md "The hub cache".
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "phiq/error.h"

namespace phiq {

// "organisation/name" (or "name") as the hub allows it.
bool IsRepositoryId(std::string_view text);

// The cache's folder, from HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or HOME;
// empty when none of them is set, or one begins with "~" and HOME is not set.
std::filesystem::path HubCacheRoot();

struct RepositoryName {
  std::string id;
  std::string revision;  // a branch, a tag or a commit; "" for main
};

// A repository as people write it: "organisation/name" with a slash at its end, with "@revision",
// or as the address of its page on the hub. nullopt: nothing of the kind.
std::optional<RepositoryName> ParseRepositoryName(std::string_view text);

// Whether a folder is a repository of the cache itself: "models--organisation--name" with
// snapshots.
bool IsRepositoryFolder(const std::filesystem::path& folder);

// The snapshot folder of a revision in such a folder. `shown` is what messages call it.
// Throws   as FindSnapshot.
std::filesystem::path SnapshotIn(const std::filesystem::path& repository,
                                 const std::string& revision, const std::string& shown,
                                 const WarningFn& warn);

// The snapshot folder of a repository's revision.
//
// Requires IsRepositoryId(id).
// Throws   kInput: nothing of it there, naming the place and the repository that may be meant, or
//          the download command.
//          kBadData: refs/main is no commit id.
std::filesystem::path FindSnapshot(const std::string& id, const std::string& revision,
                                   const WarningFn& warn);

// "organisation/name" (or "name") of the repository when `folder`, an absolute path, is a snapshot
// in a cache; else "".
std::string RepositoryIdOf(const std::filesystem::path& folder);

}  // namespace phiq
