// Finds the folder of a checkpoint and reads its side files.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/diagnosis.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/lookalike.h"
#include "checkpoint/open_input.h"
#include "io/system.h"
#include "phiq/checkpoint.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

bool IsWeightsName(std::string_view name) {
  return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
}

// What the names in the folder tell before any file is opened.
void LookAround(const fs::path& folder, const WarningFn& warn) {
  const std::vector<std::string> names = NamesInFolder(folder);
  for (const std::string& name : names) {
    if (name.ends_with(".incomplete") || name.ends_with(".part")) {
      warn({ErrorCode::kBadData,
            fmt::format("{}: lies beside the checkpoint (interrupted download?)",
                        Escape((folder / name).native()))});
    }
  }
}

// Absolute, without a slash at the end: its last component is a name.
fs::path WholePath(const fs::path& folder) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(folder, ignored).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

}  // namespace

fs::path CheckpointFolder::PathOf(std::string_view name) const { return path_ / name; }

bool CheckpointFolder::Has(std::string_view name) const {
  return Stands(PathOf(name), ErrorCode::kInput);
}

std::optional<std::string> CheckpointFolder::ReadFile(std::string_view name,
                                                      std::uint64_t max_bytes) const {
  if (!Has(name)) return std::nullopt;
  const fs::path path = PathOf(name);
  std::string content = WithDownloadHint(path, [&] { return ReadWholeFile(path, max_bytes); });
  CheckSideFile(content, content.size(), path.native());
  return content;
}

std::vector<std::string> CheckpointFolder::Names() const { return NamesInFolder(path_); }

std::uint64_t CheckpointFolder::SizeBytes(std::string_view name) const {
  std::error_code failed;
  const std::uintmax_t size = fs::file_size(PathOf(name), failed);
  return failed ? 0 : size;
}

CheckpointFolder LocateCheckpoint(const std::string& model, const WarningFn& warn) {
  CheckpointFolder found;
  std::error_code failure;
  const fs::file_status status = fs::status(model, failure);
  std::error_code ignored;
  const bool is_there = fs::exists(fs::symlink_status(model, ignored));
  if (fs::is_directory(status)) {
    found.path_ = IsRepositoryFolder(model) ? SnapshotIn(model, {}, model, warn) : fs::path(model);
  } else if (is_there && IsWeightsName(model)) {
    const fs::path file = model;
    found.path_ = file.has_parent_path() ? file.parent_path() : ".";
    found.weights_file_ = file.filename().native();
  } else if (is_there && fs::exists(status)) {
    throw NoCheckpointFile(model);
  } else if (is_there) {  // a link that leads nowhere
    throw Error(ErrorCode::kInput,
                status.type() == fs::file_type::not_found ? "dangling link" : failure.message())
        .In(model);
  } else if (const std::optional<RepositoryName> name = ParseRepositoryName(model)) {
    found.path_ = FindSnapshot(name->id, name->revision, warn);
  } else {
    throw Error(ErrorCode::kInput, failure ? failure.message() : "No such file or directory")
        .In(model);
  }
  const fs::path whole = WholePath(found.path_);
  found.repository_id_ = RepositoryIdOf(whole);
  found.model_name_ = found.repository_id_.substr(found.repository_id_.find('/') + 1);
  if (found.model_name_.empty())
    found.model_name_ = whole.has_filename() ? whole.filename().native() : "model";
  LookAround(found.path_, warn);
  return found;
}

}  // namespace phiq
