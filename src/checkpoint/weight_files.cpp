// What lies in a folder beside its weights is left-over more often than not: names decide here,
// once for all, and every choice that leaves something out says so.
#include "checkpoint/weight_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "base/limits.h"
#include "base/parse_number.h"
#include "checkpoint/open_input.h"
#include "checkpoint/shard_index.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::string_view kSuffix = ".safetensors";

// "model-00001-of-00002.safetensors"
struct NumberedName {
  std::string_view stem;  // "model"
  std::uint32_t number = 0, count = 0;
};

std::optional<NumberedName> ParseNumberedName(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  const std::size_t of = name.rfind("-of-");
  if (of == name.npos) return std::nullopt;
  const std::size_t dash = name.rfind('-', of - (of > 0 ? 1 : 0));
  if (dash == name.npos || dash >= of) return std::nullopt;
  const auto number = ParseNumber<std::uint32_t>(name.substr(dash + 1, of - dash - 1));
  const auto count = ParseNumber<std::uint32_t>(name.substr(of + 4));
  if (!number || !count || *number == 0 || *number > *count || *count > limits::kShards)
    return std::nullopt;
  return NumberedName{name.substr(0, dash), *number, *count};
}

// Sets of numbered shards by stem and count; of each the names by number.
using ShardSets =
    std::map<std::pair<std::string, std::uint32_t>, std::map<std::uint32_t, std::string>>;

ShardSets FindShardSets(const std::vector<std::string>& names) {
  ShardSets sets;
  for (const std::string& name : names) {
    if (IsForeignWeights(name)) continue;
    if (const auto numbered = ParseNumberedName(name))
      sets[{std::string(numbered->stem), numbered->count}].emplace(numbered->number, name);
  }
  return sets;
}

std::string FirstNames(std::vector<std::string> names) {
  const bool is_cut = names.size() > kMaxNamed;
  if (is_cut) names.resize(kMaxNamed);
  for (std::string& name : names) name = Escape(name);
  return fmt::format("{}{}", fmt::join(names, ", "), is_cut ? ", ..." : "");
}

std::optional<WeightFiles> NumberedShards(const CheckpointFolder& folder, const WarningFn& warn) {
  const ShardSets sets = FindShardSets(NamesInFolder(folder.path()));
  if (sets.empty()) return std::nullopt;
  if (sets.size() > 1) {
    std::vector<std::string> firsts;
    for (const auto& [key, shards] : sets) firsts.push_back(shards.begin()->second);
    throw Error(ErrorCode::kBadData, fmt::format("no {}, and several sets of shards: {}",
                                                 kIndexName, FirstNames(firsts)))
        .In(folder.path().native())
        .Hint("leave the files of one model only");
  }
  const auto& [key, shards] = *sets.begin();
  const std::uint32_t count = key.second;
  if (shards.size() < count) {
    std::uint32_t missing = 1;
    while (shards.contains(missing)) ++missing;
    throw Error(ErrorCode::kInput, fmt::format("{} of {} shards missing, the first is number {}",
                                               count - shards.size(), count, missing))
        .In(folder.path().native())
        .Hint("incomplete download? fetch them again");
  }
  WeightFiles files;
  for (const auto& [number, name] : shards) files.shards.push_back(name);
  warn({ErrorCode::kBadData, fmt::format("{}: no {}: the {} numbered shards are taken",
                                         Escape(folder.path().native()), kIndexName, count)});
  return files;
}

// False too for an index that cannot be read: beside a single file it would not be missed.
bool IndexNames(const CheckpointFolder& folder, std::string_view shard) {
  try {
    const std::string index = folder.ReadFile(kIndexName, limits::kIndexBytes).value_or("");
    const std::vector<std::string> shards =
        ParseShardIndex(index, folder.PathOf(kIndexName).native()).shards;
    return std::ranges::find(shards, shard) != shards.end();
  } catch (const Error&) {
    return false;
  }
}

// Weights that nobody reads: of all that the single file makes left-over.
void WarnOfLeftovers(const CheckpointFolder& folder, const WarningFn& warn) {
  std::vector<std::string> ignored = NamesInFolder(folder.path());
  std::erase_if(ignored, [](const std::string& name) {
    const bool is_weights = name.ends_with(kSuffix) || name == kIndexName;
    return !is_weights || name == kWeightsName || IsForeignWeights(name);
  });
  if (ignored.empty()) return;
  warn({ErrorCode::kBadData, fmt::format("{}: is taken, as transformers does, and {} {} ignored",
                                         Escape(folder.PathOf(kWeightsName).native()),
                                         FirstNames(ignored), ignored.size() == 1 ? "is" : "are")});
}

}  // namespace

bool IsForeignWeights(std::string_view name) noexcept {
  return name.starts_with("consolidated") || name.starts_with("adapter_model") ||
         name.starts_with("optimizer") || name.starts_with("._");
}

std::uint32_t CountShards(std::string_view name) noexcept {
  const std::optional<NumberedName> numbered = ParseNumberedName(name);
  return numbered ? numbered->count : 1;
}

std::optional<WeightFiles> FindWeightFiles(const CheckpointFolder& folder, const WarningFn& warn) {
  if (folder.weights_file()) {
    const std::string& name = *folder.weights_file();
    if (name.ends_with(".json")) return WeightFiles{name, {}};
    return WeightFiles{"", {name}};
  }
  if (folder.Has(kWeightsName) && !(folder.Has(kIndexName) && IndexNames(folder, kWeightsName))) {
    WarnOfLeftovers(folder, warn);
    return WeightFiles{"", {std::string(kWeightsName)}};
  }
  if (folder.Has(kIndexName)) return WeightFiles{std::string(kIndexName), {}};
  return NumberedShards(folder, warn);
}

}  // namespace phiq
