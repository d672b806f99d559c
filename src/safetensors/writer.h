// The files of a safetensors model, every byte's place decided before the first tensor is written.
// Reading them is src/checkpoint's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phiq/checkpoint.h"

namespace phiq::safetensors {

struct TensorSpec {
  std::string name;  // valid UTF-8
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  // All bytes of a tensor that needs no weight to be known; "": they are written later. In a shard
  // such tensors stand first, inside its head.
  std::string content = {};
};

// Where tensors stand in a file.
struct Style {
  std::uint64_t alignment_bytes = 64;  // of the data
  // The largest types first (in the order of DType), then by name, as the safetensors library
  // writes; else in the given order.
  bool by_type = false;
};

using Metadata = std::vector<std::pair<std::string, std::string>>;

struct PlacedTensor {
  std::size_t shard = 0;           // index into Files::shards
  std::uint64_t offset_bytes = 0;  // from the start of the shard's file
  std::uint64_t size_bytes = 0;
};

struct Shard {
  std::string name;              // "model.safetensors", "model-00001-of-00002.safetensors"
  std::string head;              // the bytes before the first tensor that is written later
  std::uint64_t size_bytes = 0;  // of the file
};

struct Files {
  std::vector<Shard> shards;
  std::vector<PlacedTensor> tensors;  // beside the TensorSpecs
  std::uint64_t tensor_bytes = 0;     // of all shards, without the heads
};

inline constexpr std::string_view kIndexName = "model.safetensors.index.json";

// "model-00001-of-00002.safetensors"; of one shard "model.safetensors". `shard` counts from 0.
std::string ShardName(std::size_t shard, std::size_t n_shards);

// Lays out tensors back to back in the given order, a new shard where one would pass
// `max_shard_bytes` (a larger tensor has a shard of its own).
//
// Layout    docs/formats/safetensors.md "Writing". Every tensor begins at a multiple of its
//           element's size: where the given order does not do that, the tensors of a shard stand
//           with the largest elements first. Names in the header are in file order.
// Throws    kUnsupported: a header beyond the limit.
// Requires  names that differ, and sizes that fit 64 bits; content as long as dtype and shape say.
Files PlaceTensors(std::span<const TensorSpec> tensors, const Metadata& metadata,
                   std::uint64_t max_shard_bytes, const Style& style = {});

// The content of kIndexName.
//
// `n_parameters`  what total_parameters says.
std::string MakeIndex(const Files& files, std::span<const TensorSpec> tensors,
                      std::uint64_t n_parameters);

}  // namespace phiq::safetensors
