// The initializers of a model's main graph, wherever their bytes stand.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/onnx/wire_check.h"
#include "io/input_file.h"

namespace phiq::onnx {

// An initializer of the main graph.
struct Initializer {
  std::string name;
  std::int32_t data_type = 0;  // TensorProto.DataType (data_type.h)
  std::vector<std::uint64_t> dims;
  std::size_t file = 0;  // index into files(); 0 is the .onnx itself
  std::uint64_t offset_bytes = 0, size_bytes = 0;
  std::vector<std::byte> content;  // of typed data (float_data, ...), which has no place of its own
};

class Initializers {
 public:
  Initializers() = default;
  // Checks every initializer of `graph` and opens the files with their data; the raw_data is
  // dropped from `graph`, as Read has it.
  //
  // `raw_data`   where each initializer's stands in `file`, the .onnx itself.
  // Throws       kInput, kBadData, kUnsupported, as Folder::Open does.
  Initializers(::onnx::GraphProto& graph, InputFile file,
               const std::vector<std::optional<ByteRange>>& raw_data);

  std::span<const Initializer> all() const noexcept { return all_; }
  const Initializer* Find(std::string_view name) const noexcept;  // the first of that name
  std::optional<std::size_t> FindIndex(std::string_view name) const noexcept;
  std::span<const InputFile> files() const noexcept { return files_; }

  // Bytes [offset_bytes, offset_bytes + out.size()) of an initializer. Threads: safe.
  void Read(const Initializer& initializer, std::uint64_t offset_bytes,
            std::span<std::byte> out) const;

 private:
  std::vector<InputFile> files_;
  std::vector<Initializer> all_;
  std::unordered_map<std::string_view, std::size_t> index_;  // into all_; the names are theirs
};

// Copies `out.size()` bytes of `from`. Throws kInternal: they are not all in it.
void CopyRange(const std::string& name, std::span<const std::byte> from, std::uint64_t offset_bytes,
               std::span<std::byte> out);

}  // namespace phiq::onnx
