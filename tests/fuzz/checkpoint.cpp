// Targets of the checkpoint: safetensors headers and the index of shards.
#include "checkpoint/safetensors_header.h"
#include "checkpoint/shard_index.h"
#include "fuzz/targets.h"

namespace phiq::fuzz {
namespace {

std::string Weights() { return ReadSeed(SeedFolder("model") / "model.safetensors"); }

void RunSafetensors(Input input) {
  Attempt([&] {
    const std::string_view file = TextOf(input);
    const std::uint64_t n = SafetensorsHeaderBytes(file.substr(0, kSafetensorsSniffBytes),
                                                   file.size(), "x.safetensors");
    const SafetensorsHeader header =
        ParseSafetensorsHeader(file.substr(8, n), file.size(), "x.safetensors");
    for (const SourceTensor& tensor : header.tensors)
      if (tensor.offset_bytes > file.size() ||
          tensor.size_bytes > file.size() - tensor.offset_bytes)
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
       [] { return std::vector<std::string>{Weights()}; }},
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
