// Folders whose weights are safetensors: plan lines' arrays as tensors of shards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/layout.h"
#include "phiq/plan.h"
#include "safetensors/writer.h"

namespace phiq {

// A tensor, and the array of a plan line that it is; the spec of one that is none has content.
struct ShardTensor {
  safetensors::TensorSpec spec;
  std::optional<PlacedArray> array;  // line, array and order are set
};

// Adds the shards to a layout, and the arrays, whose places are then known. Returns the content of
// safetensors::kIndexName.
//
// Requires  a layout without arrays.
// Throws    as safetensors::PlaceTensors.
std::string AddShards(std::vector<ShardTensor> tensors, const safetensors::Metadata& metadata,
                      std::uint64_t max_shard_bytes, const safetensors::Style& style,
                      std::uint64_t n_weights, OutputLayout& layout);

// The names of all shards and of the index of a folder with at most n shards.
std::vector<std::string> ShardNames(std::size_t n);

// The safetensors type of an array of codes' scales, or of floats. Scales of one byte are kU8.
DType DTypeOfScales(ScaleType scale) noexcept;

}  // namespace phiq
