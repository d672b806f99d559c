// Opens the shards of a checkpoint and checks them against each other and against the index.
#include "phiq/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <map>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "checkpoint/diagnosis.h"
#include "checkpoint/open_input.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/shard_index.h"
#include "checkpoint/weight_files.h"
#include "io/input_file.h"
#include "phiq/text.h"

namespace phiq {

namespace fs = std::filesystem;

struct Checkpoint::Impl {
  std::vector<InputFile> files;
  std::vector<fs::path> shards;
  std::vector<SourceTensor> tensors;
  std::vector<std::size_t> by_name;             // indices into tensors, sorted by name
  std::map<std::string, std::string> metadata;  // of the first shard
};

namespace {

Error BadData(const fs::path& path, std::string message) {
  return Error(ErrorCode::kBadData, std::move(message)).In(path.native());
}

// The *.safetensors in the folder that `index` does not name.
std::vector<std::string> UnlistedShards(const CheckpointFolder& folder, const ShardIndex& index) {
  std::vector<std::string> names = NamesInFolder(folder.path());
  std::erase_if(names, [&](const std::string& name) {
    return !name.ends_with(".safetensors") || IsForeignWeights(name) ||
           std::binary_search(index.shards.begin(), index.shards.end(), name);
  });
  return names;
}

// The shard itself, not what is in it: every missing one is named before any is opened.
void CheckShardsAreThere(const CheckpointFolder& folder, const ShardIndex& index,
                         const fs::path& index_path, const WarningFn& warn) {
  std::vector<std::size_t> n_tensors(index.shards.size());
  for (const auto& [tensor, shard] : index.weight_map) ++n_tensors[shard];
  std::vector<std::string> missing;
  for (std::size_t i = 0; i < index.shards.size(); ++i) {
    if (folder.Has(index.shards[i])) continue;
    missing.push_back(fmt::format("{} ({} {})", Escape(index.shards[i]), n_tensors[i],
                                  n_tensors[i] == 1 ? "tensor" : "tensors"));
  }
  const std::vector<std::string> unlisted = UnlistedShards(folder, index);
  if (missing.empty()) {
    for (const std::string& name : unlisted) {
      warn({ErrorCode::kBadData,
            fmt::format("{}: is not in {} and is ignored", Escape(folder.PathOf(name).native()),
                        Escape(index_path.filename().native()))});
    }
    return;
  }
  if (!unlisted.empty()) {
    throw BadData(
        index_path,
        fmt::format("index does not match the files: {} of its {} shards are "
                    "not here, and {} other safetensors files are, such as {}",
                    missing.size(), index.shards.size(), unlisted.size(), Escape(unlisted.front())))
        .Hint("delete or fix the index");
  }
  const std::string count = fmt::format("{} of {} shards", missing.size(), index.shards.size());
  const bool is_cut = missing.size() > kMaxNamed;
  if (is_cut) missing.resize(kMaxNamed);
  throw Error(ErrorCode::kInput, fmt::format("{} missing: {}{}", count, fmt::join(missing, ", "),
                                             is_cut ? ", ..." : ""))
      .In(index_path.native())
      .Hint("incomplete download? fetch them again");
}

// Opens a shard and adds its tensors.
void AddShard(Checkpoint::Impl& checkpoint, const fs::path& path) {
  const std::size_t shard = checkpoint.files.size();
  InputFile file = WithDownloadHint(path, [&] { return InputFile(path); });
  SafetensorsHeader header = ReadSafetensorsHeader(file);
  if (checkpoint.tensors.size() + header.tensors.size() > limits::kTensors) {
    throw BadData(path, fmt::format("more than {} tensors in all shards", limits::kTensors));
  }
  if (shard == 0) checkpoint.metadata = std::move(header.metadata);
  for (SourceTensor& tensor : header.tensors) {
    tensor.shard = shard;
    checkpoint.tensors.push_back(std::move(tensor));
  }
  checkpoint.files.push_back(std::move(file));
  checkpoint.shards.push_back(path);
}

void SortByName(Checkpoint::Impl& checkpoint) {
  checkpoint.by_name.resize(checkpoint.tensors.size());
  std::iota(checkpoint.by_name.begin(), checkpoint.by_name.end(), std::size_t{0});
  std::stable_sort(checkpoint.by_name.begin(), checkpoint.by_name.end(),
                   [&](std::size_t a, std::size_t b) {
                     return checkpoint.tensors[a].name < checkpoint.tensors[b].name;
                   });
}

// Every name once: the header's parser knows only its own shard.
void CheckNamesDiffer(const Checkpoint::Impl& checkpoint) {
  const auto tensor = [&](std::size_t i) -> const SourceTensor& {
    return checkpoint.tensors[checkpoint.by_name[i]];
  };
  for (std::size_t i = 1; i < checkpoint.by_name.size(); ++i) {
    if (tensor(i - 1).name != tensor(i).name) continue;
    throw BadData(checkpoint.shards[tensor(i - 1).shard],
                  fmt::format("is also in {}",
                              Escape(checkpoint.shards[tensor(i).shard].filename().native())))
        .Tensor(tensor(i).name);
  }
}

// An index that was copied from another save of the model, or edited, may lack a tensor of the
// shards, name another shard for it, or tensors that no shard has: whether one of those is needed
// shows when the model is described. Transformers reads what the shards hold.
void CheckAgainstIndex(const Checkpoint::Impl& checkpoint, const ShardIndex& index,
                       const fs::path& index_path, const WarningFn& warn) {
  std::unordered_set<std::string_view> seen;
  const SourceTensor* elsewhere = nullptr;
  const SourceTensor* unlisted = nullptr;
  std::size_t n_elsewhere = 0, n_unlisted = 0;
  std::uint64_t total_size = 0;
  for (const SourceTensor& tensor : checkpoint.tensors) {
    const auto listed = index.weight_map.find(tensor.name);
    if (listed == index.weight_map.end()) {
      if (n_unlisted++ == 0) unlisted = &tensor;
    } else if (listed->second != tensor.shard && n_elsewhere++ == 0) {
      elsewhere = &tensor;
    }
    seen.insert(tensor.name);
    total_size += tensor.size_bytes;  // at most the files' own sizes
  }
  const auto warn_of = [&](std::string text) {
    warn({ErrorCode::kBadData, fmt::format("{}: {}", Escape(index_path.native()), text)});
  };
  if (elsewhere != nullptr) {
    warn_of(fmt::format("{} tensor{} in another shard than it says: '{}' is in {}", n_elsewhere,
                        n_elsewhere == 1 ? " is" : "s are", Escape(elsewhere->name),
                        Escape(checkpoint.shards[elsewhere->shard].filename().native())));
  }
  if (unlisted != nullptr) {
    warn_of(fmt::format("{} tensor{} of the shards {} not in it, '{}' of {} first", n_unlisted,
                        n_unlisted == 1 ? "" : "s", n_unlisted == 1 ? "is" : "are",
                        Escape(unlisted->name),
                        Escape(checkpoint.shards[unlisted->shard].filename().native())));
  }
  // The first missing one by name, whatever the order of the hash map.
  const std::string* lacking = nullptr;
  std::size_t n_lacking = 0;
  for (const auto& [name, shard] : index.weight_map) {
    if (seen.contains(name)) continue;
    ++n_lacking;
    if (lacking == nullptr || name < *lacking) lacking = &name;
  }
  if (lacking != nullptr) {
    const std::string& shard = index.shards[index.weight_map.at(*lacking)];
    warn_of(n_lacking == 1
                ? fmt::format("'{}' should be in {} and is not", Escape(*lacking), Escape(shard))
                : fmt::format("{} of its tensors are in no shard, such as '{}'", n_lacking,
                              Escape(*lacking)));
  }
  if (index.total_size && *index.total_size != total_size) {
    warn_of(fmt::format("total_size is {} but the tensors have {} bytes", *index.total_size,
                        total_size));
  }
}

}  // namespace

std::uint64_t SourceTensor::n_elements() const noexcept {
  return CheckedProduct(shape).value_or(0);  // the header's parser has seen that it fits
}

Checkpoint::Checkpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

std::span<const SourceTensor> Checkpoint::tensors() const noexcept { return impl_->tensors; }

std::span<const fs::path> Checkpoint::shards() const noexcept { return impl_->shards; }

const std::map<std::string, std::string>& Checkpoint::metadata() const noexcept {
  return impl_->metadata;
}

const SourceTensor* Checkpoint::Find(std::string_view name) const noexcept {
  const auto found = std::lower_bound(
      impl_->by_name.begin(), impl_->by_name.end(), name,
      [&](std::size_t i, std::string_view wanted) { return impl_->tensors[i].name < wanted; });
  if (found == impl_->by_name.end() || impl_->tensors[*found].name != name) return nullptr;
  return &impl_->tensors[*found];
}

void Checkpoint::Read(const SourceTensor& tensor, std::uint64_t offset_bytes,
                      std::span<std::byte> out) const {
  assert(out.size() <= tensor.size_bytes && offset_bytes <= tensor.size_bytes - out.size());
  impl_->files[tensor.shard].ReadAt(tensor.offset_bytes + offset_bytes, out);
}

void Checkpoint::CheckUnchanged() const {
  for (const InputFile& file : impl_->files) file.CheckUnchanged();
}

bool Checkpoint::IsShard(const fs::path& path) const {
  return std::any_of(impl_->files.begin(), impl_->files.end(),
                     [&](const InputFile& file) { return file.IsSameFile(path); });
}

Checkpoint OpenCheckpoint(const CheckpointFolder& folder, const WarningFn& warn) {
  auto checkpoint = std::make_unique<Checkpoint::Impl>();
  const std::optional<WeightFiles> weights = FindWeightFiles(folder, warn);
  if (!weights) throw NoCheckpoint(folder);
  if (weights->index.empty()) {
    for (const std::string& name : weights->shards) AddShard(*checkpoint, folder.PathOf(name));
    SortByName(*checkpoint);
    CheckNamesDiffer(*checkpoint);
    return Checkpoint(std::move(checkpoint));
  }
  const fs::path weights_path = folder.PathOf(weights->index);
  const ShardIndex index = ParseShardIndex(
      folder.ReadFile(weights->index, limits::kIndexBytes).value_or(""), weights_path.native());
  CheckShardsAreThere(folder, index, weights_path, warn);
  // From here on every shard that the index names is there; the numbers of shards are the index's.
  for (const std::string& name : index.shards) AddShard(*checkpoint, folder.PathOf(name));
  SortByName(*checkpoint);
  CheckNamesDiffer(*checkpoint);
  CheckAgainstIndex(*checkpoint, index, weights_path, warn);
  return Checkpoint(std::move(checkpoint));
}

}  // namespace phiq
