// Reads the index as a stream: only two of its members matter.
#include "checkpoint/shard_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "checkpoint/tensor_name.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::size_t kMaxFileNameBytes = 255;  // of every file system we meet

// The name comes from a file and chooses what is opened: it must not lead out of the folder.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= kMaxFileNameBytes &&
         name.find_first_of(std::string_view("/\\:\0", 4)) == name.npos;
}

class IndexEvents : public JsonEvents {
 public:
  explicit IndexEvents(std::string_view path) : path_(path) {}

  ShardIndex Take() {
    if (!has_weight_map_) throw Fail("weight_map is missing");
    if (tensors_.empty()) throw Fail("weight_map lists no tensor");
    ShardIndex index;
    index.total_size = total_size_;
    for (auto& [name, number] : shard_numbers_) {  // in the order of names
      number = index.shards.size();
      index.shards.push_back(name);
    }
    for (const auto& [tensor, shard] : tensors_) {
      index.weight_map.emplace(tensor, shard_numbers_.at(shard));
    }
    return index;
  }

  void OnStartObject(int depth) override {
    depth_ = depth;
    if (depth > 2 && member_ == "weight_map") RefuseValue("an object");
    if (depth == 2 && member_ == "weight_map") has_weight_map_ = true;
  }
  void OnEndObject(int depth) override { depth_ = depth - 1; }
  void OnKey(const std::string& key, int depth) override {
    if (++n_keys_ > 2 * limits::kTensors) throw Fail("too many keys");
    if (depth == 1) member_ = key;
    if (depth == 2) key_ = key;
    if (depth == 2 && member_ == "weight_map") CheckTensorName(key, path_);
  }
  void OnStartArray(int depth) override {
    if (depth == 1) throw Fail("is not an object");
    if (member_ == "weight_map") RefuseValue("an array");
    depth_ = depth;
  }
  void OnEndArray(int depth) override { depth_ = depth - 1; }
  void OnString(const std::string& value) override {
    if (depth_ == 2 && member_ == "weight_map") {
      AddTensor(value);
    } else {
      OnOther(fmt::format("\"{}\"", Escape(value)));
    }
  }
  void OnUnsigned(std::uint64_t value) override {
    if (depth_ == 2 && member_ == "metadata" && key_ == "total_size") {
      total_size_ = value;
    } else {
      OnOther(fmt::format("{}", value));
    }
  }
  void OnOther(std::string_view what) override {
    if (depth_ == 0) throw Fail("is not an object");
    if (member_ == "weight_map") RefuseValue(Escape(what));
  }

 private:
  Error Fail(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_);
  }

  void RefuseValue(std::string_view found) const {
    if (depth_ == 1) throw Fail(fmt::format("weight_map is {}, needs an object", found));
    throw Fail(fmt::format("shard name {} is not a string", found)).Tensor(key_);
  }

  void AddTensor(const std::string& shard) {
    if (!IsPlainFileName(shard)) {
      throw Fail(fmt::format("shard name '{}' must be a plain file name", Escape(shard)))
          .Tensor(key_);
    }
    if (tensors_.size() == limits::kTensors) {
      throw Fail(fmt::format("more than {} tensors", limits::kTensors));
    }
    if (shard_numbers_.try_emplace(shard, 0).second && shard_numbers_.size() > limits::kShards) {
      throw Fail(fmt::format("more than {} shards", limits::kShards));
    }
    tensors_.emplace_back(key_, shard);
  }

  std::string_view path_;
  int depth_ = 0;
  std::string member_, key_;  // the keys at depth 1 and 2
  std::size_t n_keys_ = 0;
  bool has_weight_map_ = false;
  std::optional<std::uint64_t> total_size_;
  std::map<std::string, std::size_t> shard_numbers_;
  std::vector<std::pair<std::string, std::string>> tensors_;  // name, shard
};

}  // namespace

ShardIndex ParseShardIndex(std::string_view text, std::string_view path) {
  IndexEvents events(path);
  ParsePythonJsonEvents(text, path, limits::kJsonDepth, events);
  return events.Take();
}

}  // namespace phiq
