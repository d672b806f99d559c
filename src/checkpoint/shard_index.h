// model.safetensors.index.json: which tensor is in which shard.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace phiq {

struct ShardIndex {
  std::vector<std::string> shards;                          // plain file names, sorted
  std::unordered_map<std::string, std::size_t> weight_map;  // tensor -> index into shards
  std::optional<std::uint64_t> total_size;                  // tensor bytes of all shards
};

// Throws   kBadData: no weight_map, a shard name that is no plain file name, over the limits.
ShardIndex ParseShardIndex(std::string_view text, std::string_view path);

}  // namespace phiq
