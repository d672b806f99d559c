// Which files of a folder are the weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/error.h"

namespace phiq {

inline constexpr std::string_view kWeightsName = "model.safetensors";
inline constexpr std::string_view kIndexName = "model.safetensors.index.json";

inline constexpr std::size_t kMaxNamed = 5;  // names in one message

// Weights that belong to other programs and may lie beside a checkpoint.
bool IsForeignWeights(std::string_view name) noexcept;

// "model-00001-of-00003.safetensors": 3; of any other name 1.
std::uint32_t CountShards(std::string_view name) noexcept;

struct WeightFiles {
  std::string index;                // the file that names the shards; "" when there is none
  std::vector<std::string> shards;  // without an index: plain file names, in their order
};

// The file that the user named; else model.safetensors, else the index, else a complete set of
// numbered shards. A newer model.safetensors beside an older set is what saving twice with other
// shard sizes leaves, and is what transformers loads.
//
// Returns  nullopt: there is none of these.
// Throws   kInput: numbered shards without an index, of which some are missing. kBadData: several
//          sets of them.
// Warns    of what is left out, and of a set without an index.
std::optional<WeightFiles> FindWeightFiles(const CheckpointFolder& folder, const WarningFn& warn);

}  // namespace phiq
