// A Hugging Face checkpoint: where its files are, its safetensors headers, its rows on demand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/error.h"

namespace phiq {

// The small files beside a model's weights (config.json, tokenizer.json, ...), wherever they stand.
class SideFiles {
 public:
  virtual ~SideFiles() = default;

  // Where a file of that name stands or would stand, for messages.
  virtual std::filesystem::path PathOf(std::string_view name) const = 0;
  // Returns  nullopt when there is no such name.
  // Throws   kInput: there, but a dangling link, not a regular file or not readable.
  //          kBadData: more than max_bytes.
  virtual std::optional<std::string> ReadFile(std::string_view name,
                                              std::uint64_t max_bytes) const = 0;
  // In the order of the alphabet.
  virtual std::vector<std::string> Names() const = 0;
  // 0: there is no such file.
  virtual std::uint64_t SizeBytes(std::string_view name) const = 0;

 protected:
  SideFiles() = default;
  SideFiles(const SideFiles&) = default;
  SideFiles& operator=(const SideFiles&) = default;
};

// The files of one checkpoint. Nothing of the weights is open yet.
class CheckpointFolder final : public SideFiles {
 public:
  // `path`: the folder as the user gave it (for messages; for a hub name the snapshot folder).
  // `model_name`: what the model is called: last component of the folder, or the repository's
  // name for a snapshot in the hub cache ("Phi-3.5-mini-instruct").
  const std::filesystem::path& path() const noexcept { return path_; }
  const std::string& model_name() const noexcept { return model_name_; }
  // "organisation/name" of a snapshot in the hub cache; else "".
  const std::string& repository_id() const noexcept { return repository_id_; }
  // Set when the user named a *.safetensors or *.index.json instead of the folder.
  const std::optional<std::string>& weights_file() const noexcept { return weights_file_; }

  std::filesystem::path PathOf(std::string_view name) const override;
  bool Has(std::string_view name) const;
  std::optional<std::string> ReadFile(std::string_view name,
                                      std::uint64_t max_bytes) const override;
  std::vector<std::string> Names() const override;
  std::uint64_t SizeBytes(std::string_view name) const override;

 private:
  friend CheckpointFolder LocateCheckpoint(const std::string&, const WarningFn&);
  std::filesystem::path path_;
  std::string model_name_, repository_id_;
  std::optional<std::string> weights_file_;
};

// Finds a checkpoint: a folder, a *.safetensors or *.index.json in one, or "organisation/name" in
// the local hub cache (an existing path wins).
//
// Throws   kInput: no such path or repository (the message names what was looked at and the
//          command that downloads it), dangling links; kUnsupported: only pickle weights are there.
// Source   docs/formats/safetensors.md.
CheckpointFolder LocateCheckpoint(const std::string& model, const WarningFn& warn);

// How safetensors stores an element. Only F32, F16 and BF16 are weights for phiq; the others parse.
enum class DType : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};
std::string_view DTypeName(DType dtype) noexcept;  // "BF16"
std::size_t DTypeBits(DType dtype) noexcept;

struct SourceTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;  // as in the checkpoint: rows first
  std::size_t shard = 0;             // index into Checkpoint::shards()
  std::uint64_t offset_bytes = 0;    // from the start of the shard's file
  std::uint64_t size_bytes = 0;

  std::uint64_t n_elements() const noexcept;
};

class Checkpoint {
 public:
  // Tensors of all shards, in the order of the shards and of their offsets.
  std::span<const SourceTensor> tensors() const noexcept;
  const SourceTensor* Find(std::string_view name) const noexcept;  // nullptr: no such tensor
  // Shard paths as messages show them.
  std::span<const std::filesystem::path> shards() const noexcept;
  // What the first shard says of itself (__metadata__).
  const std::map<std::string, std::string>& metadata() const noexcept;

  // Copies bytes [offset_bytes, offset_bytes + out.size()) of a tensor.
  // Throws   kInput (read error), kTryAgain (the file changed or shrank).
  // Threads  safe: positioned reads.
  void Read(const SourceTensor& tensor, std::uint64_t offset_bytes, std::span<std::byte> out) const;

  // Throws kTryAgain when a shard's size, times or identity differ from those at opening.
  void CheckUnchanged() const;

  // True when `path` is the same file (device and inode) as one of the shards.
  bool IsShard(const std::filesystem::path& path) const;

  struct Impl;
  explicit Checkpoint(std::unique_ptr<Impl> impl);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

 private:
  std::unique_ptr<Impl> impl_;
};

// Reads and validates the index and every shard's header; no weight is read.
//
// Limits   header at most 100,000,000 bytes a shard, 65,536 tensors, 1,024 shards.
// Throws   kInput: a shard is missing or cannot be opened. kBadData, naming shard and tensor:
//          anything docs/formats/safetensors.md forbids.
// Owns     the open files.
Checkpoint OpenCheckpoint(const CheckpointFolder& folder, const WarningFn& warn);

}  // namespace phiq
