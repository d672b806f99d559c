// Headers and offsets; whoever has the tensors' bytes writes them there.
#include "safetensors/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/endian.h"
#include "base/limits.h"
#include "phiq/error.h"

namespace phiq::safetensors {
namespace {

// Below what readers take: MLX refuses 100,000,000 bytes.
constexpr std::uint64_t kHeaderBytes = 99'000'000;
static_assert(kHeaderBytes < limits::kSafetensorsHeaderBytes);

std::uint64_t SizeBytes(const TensorSpec& tensor) noexcept {
  const std::uint64_t n = std::accumulate(tensor.shape.begin(), tensor.shape.end(),
                                          std::uint64_t{1}, std::multiplies<>());
  return n * DTypeBits(tensor.dtype) / 8;
}

std::uint64_t ElementBytes(const TensorSpec& tensor) noexcept {
  return std::max<std::size_t>(1, DTypeBits(tensor.dtype) / 8);
}

// Which tensors each shard has, in the given order.
std::vector<std::vector<std::size_t>> CutIntoShards(std::span<const TensorSpec> tensors,
                                                    std::uint64_t max_shard_bytes) {
  std::vector<std::vector<std::size_t>> shards(1);
  std::uint64_t n_bytes = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::uint64_t size_bytes = SizeBytes(tensors[i]);
    if (!shards.back().empty() && n_bytes + size_bytes > max_shard_bytes) {
      shards.emplace_back();
      n_bytes = 0;
    }
    shards.back().push_back(i);
    n_bytes += size_bytes;
  }
  return shards;
}

// The order of a shard's tensors in its file.
void Align(std::vector<std::size_t>& shard, std::span<const TensorSpec> tensors,
           const Style& style) {
  if (style.by_type) {
    std::ranges::sort(shard, [&](std::size_t a, std::size_t b) {
      return tensors[a].dtype != tensors[b].dtype ? tensors[a].dtype > tensors[b].dtype
                                                  : tensors[a].name < tensors[b].name;
    });
  }
  const auto has_content = [&](std::size_t i) { return !tensors[i].content.empty(); };
  std::ranges::stable_partition(shard, has_content);
  std::uint64_t offset_bytes = 0;
  bool is_aligned = true;
  for (const std::size_t i : shard) {
    is_aligned = is_aligned && offset_bytes % ElementBytes(tensors[i]) == 0;
    offset_bytes += SizeBytes(tensors[i]);
  }
  if (is_aligned) return;
  std::ranges::stable_sort(shard, std::greater<>(), [&](std::size_t i) {
    return std::pair(has_content(i), ElementBytes(tensors[i]));
  });
}

nlohmann::ordered_json Entry(const TensorSpec& tensor, std::uint64_t begin, std::uint64_t end) {
  nlohmann::ordered_json entry;
  entry["dtype"] = DTypeName(tensor.dtype);
  entry["shape"] = tensor.shape;
  entry["data_offsets"] = {begin, end};
  return entry;
}

// Length, JSON and the spaces that fill it.
std::string MakeHead(const nlohmann::ordered_json& header, std::uint64_t alignment_bytes,
                     std::string_view file) {
  std::string json = header.dump();
  constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
  const std::size_t beyond = (kLengthBytes + json.size()) % alignment_bytes;
  json.append((alignment_bytes - beyond) % alignment_bytes, ' ');
  if (json.size() > kHeaderBytes) {
    throw Error(ErrorCode::kUnsupported, fmt::format("the header needs {} bytes, readers take {}",
                                                     json.size(), kHeaderBytes))
        .In(file);
  }
  std::string head(kLengthBytes, '\0');
  StoreLe(std::uint64_t{json.size()}, std::as_writable_bytes(std::span(head)));
  return head + json;
}

}  // namespace

std::string ShardName(std::size_t shard, std::size_t n_shards) {
  if (n_shards == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, n_shards);
}

Files PlaceTensors(std::span<const TensorSpec> tensors, const Metadata& metadata,
                   std::uint64_t max_shard_bytes, const Style& style) {
  std::vector<std::vector<std::size_t>> shards = CutIntoShards(tensors, max_shard_bytes);
  Files files;
  files.tensors.resize(tensors.size());
  for (std::size_t s = 0; s < shards.size(); ++s) {
    Align(shards[s], tensors, style);
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
    std::uint64_t end = 0;
    for (const std::size_t i : shards[s]) {
      const std::uint64_t size_bytes = SizeBytes(tensors[i]);
      header[tensors[i].name] = Entry(tensors[i], end, end + size_bytes);
      files.tensors[i] = {s, end, size_bytes};
      end += size_bytes;
    }
    Shard shard{ShardName(s, shards.size()), "", 0};
    shard.head = MakeHead(header, style.alignment_bytes, shard.name);
    shard.size_bytes = shard.head.size() + end;
    for (const std::size_t i : shards[s]) files.tensors[i].offset_bytes += shard.head.size();
    for (const std::size_t i : shards[s]) shard.head += tensors[i].content;
    files.tensor_bytes += end;
    files.shards.push_back(std::move(shard));
  }
  return files;
}

std::string MakeIndex(const Files& files, std::span<const TensorSpec> tensors,
                      std::uint64_t n_parameters) {
  std::map<std::string, std::string> weight_map;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    weight_map[tensors[i].name] = files.shards[files.tensors[i].shard].name;
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = files.tensor_bytes;
  index["metadata"]["total_parameters"] = n_parameters;
  index["weight_map"] = weight_map;
  return index.dump(4);
}

}  // namespace phiq::safetensors
