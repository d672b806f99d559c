// Targets of the checkpoint: safetensors headers and the index of shards.
#include <cstring>

#include "checkpoint/safetensors_header.h"
#include "checkpoint/shard_index.h"
#include "fuzz/targets.h"

namespace phiq::fuzz {
namespace {

constexpr std::size_t kLengthBytes = 8;

std::string Weights() { return ReadSeed(SeedFolder("model") / "model.safetensors"); }

// The file up to its tensors.
std::string Header() {
  const std::string weights = Weights();
  std::uint64_t n = 0;
  std::memcpy(&n, weights.data(), sizeof n);
  return weights.substr(0, kLengthBytes + n);
}

// An input goes without the tensors' bytes, so that what is changed is what is read. They still
// count, but for inputs that are shorter than what is looked at first.
void RunSafetensors(Input input) {
  static const std::uint64_t tensor_bytes = Weights().size() - Header().size();
  const std::string_view head = TextOf(input);
  const std::uint64_t file_bytes =
      head.size() + (head.size() < kSafetensorsSniffBytes ? 0 : tensor_bytes);
  Attempt([&] {
    const std::uint64_t n =
        SafetensorsHeaderBytes(head.substr(0, kSafetensorsSniffBytes), file_bytes, "x.safetensors");
    if (n > head.size() - kLengthBytes) return;  // would be read from the tensors' bytes
    const SafetensorsHeader header =
        ParseSafetensorsHeader(head.substr(kLengthBytes, n), file_bytes, "x.safetensors");
    for (const SourceTensor& tensor : header.tensors)
      if (tensor.offset_bytes > file_bytes || tensor.size_bytes > file_bytes - tensor.offset_bytes)
        Fail("a tensor outside of its file");
  });
}

void RunIndex(Input input) {
  Attempt([&] {
    const ShardIndex index = ParseShardIndex(TextOf(input), "x.index.json");
    for (const auto& [tensor, shard] : index.weight_map)
      if (shard >= index.shards.size()) Fail("a tensor of no shard");
    for (const std::string& shard : index.shards)
      if (shard.find('/') != std::string::npos) Fail("a shard elsewhere");
  });
}

}  // namespace

std::span<const Target> CheckpointTargets() {
  static const std::vector<Target> targets = {
      {"safetensors", Shape::kSafetensors, RunSafetensors,
       [] { return std::vector<std::string>{Header()}; }},
      {"shard_index", Shape::kText, RunIndex,
       [] {
         return std::vector<std::string>{
             R"({"metadata":{"total_size":123},"weight_map":{"a":"model-00001-of-00002.safetensors",)"
             R"("b":"model-00002-of-00002.safetensors"}})"};
       }},
  };
  return targets;
}

}  // namespace phiq::fuzz
