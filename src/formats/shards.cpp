// Every tensor's place is decided in safetensors/writer; here they become files and arrays of a
// layout.
#include "formats/shards.h"

#include <algorithm>
#include <utility>

#include "formats/side_files.h"
#include "model/float_types.h"

namespace phiq {

std::string AddShards(std::vector<ShardTensor> tensors, const safetensors::Metadata& metadata,
                      std::uint64_t max_shard_bytes, const safetensors::Style& style,
                      std::uint64_t n_weights, OutputLayout& layout) {
  std::vector<safetensors::TensorSpec> specs;
  for (ShardTensor& tensor : tensors) specs.push_back(std::move(tensor.spec));
  safetensors::Files files = safetensors::PlaceTensors(specs, metadata, max_shard_bytes, style);
  const std::size_t first = layout.files.size();
  std::string index = safetensors::MakeIndex(files, specs, n_weights);
  for (safetensors::Shard& shard : files.shards)
    layout.files.push_back({std::move(shard.name), BytesOf(shard.head), shard.size_bytes});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].array) continue;
    PlacedArray& array = layout.arrays.emplace_back(*tensors[i].array);
    array.file = first + files.tensors[i].shard;
    array.offset_bytes = files.tensors[i].offset_bytes;
  }
  std::ranges::sort(layout.arrays, {}, [](const PlacedArray& array) {
    return std::pair(array.file, array.offset_bytes);
  });
  return index;
}

std::vector<std::string> ShardNames(std::size_t n) {
  std::vector<std::string> names = {std::string(safetensors::kIndexName)};
  for (std::size_t n_shards = 1; n_shards <= n; ++n_shards) {
    for (std::size_t shard = 0; shard < n_shards; ++shard)
      names.push_back(safetensors::ShardName(shard, n_shards));
  }
  return names;
}

DType DTypeOfScales(ScaleType scale) noexcept {
  const std::optional<FloatType> type = FloatTypeOf(scale);
  return type ? DTypeOf(*type) : DType::kU8;
}

}  // namespace phiq
