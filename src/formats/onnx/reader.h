// Reads ONNX model folders, trusting nothing in them.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/onnx/initializers.h"
#include "formats/onnx/weights.h"
#include "formats/order.h"
#include "io/input_file.h"
#include "phiq/encoding.h"
#include "phiq/error.h"

namespace phiq::onnx {

class Folder {
 public:
  // `path`   the folder (the file that genai_config.json names, else model.onnx), or the .onnx in
  // it.
  //
  // Throws   kInput: a file is missing. kBadData: byte offset, initializer or node, value found and
  //          allowed. kUnsupported: data types and forms of operators that phiq does not do.
  // Warns    initializers that belong to no weight.
  // Memory   about the size of the .onnx; external data stays on disk.
  static Folder Open(const std::filesystem::path& path, const WarningFn& warn);

  // Without the raw_data of the main graph's initializers: Read has it.
  const ::onnx::ModelProto& proto() const noexcept { return *proto_; }
  std::span<const Initializer> initializers() const noexcept { return initializers_.all(); }
  const Initializer* Find(std::string_view name) const noexcept { return initializers_.Find(name); }
  std::span<const Weight> weights() const noexcept { return weights_; }
  std::span<const Table> tables() const noexcept { return tables_; }
  std::span<const InputFile> files() const noexcept { return initializers_.files(); }

  // What is wrong with the graph although it can be read: names that nothing defines, names with
  // two definitions, cycles.
  std::vector<std::string> FindGraphProblems() const;

  // Bytes [offset_bytes, offset_bytes + out.size()) of an initializer or table. Threads: safe.
  void Read(const Initializer& initializer, std::uint64_t offset_bytes,
            std::span<std::byte> out) const {
    initializers_.Read(initializer, offset_bytes, out);
  }
  void Read(const Table& table, std::uint64_t offset_bytes, std::span<std::byte> out) const;
  // The bytes of all arrays.
  std::uint64_t SizeBytes(const Weight& weight) const noexcept;

  // Decodes rows [first_row, first_row + n_rows) of a weight.
  //
  // Shapes    out: [n_rows * row_elements].
  // Threads   safe, with a codec for each.
  void ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                RowCodec& codec, std::span<float> out) const;
  // Rows of a table of floats with two dims, as many as `out` has room for. Threads: safe.
  void ReadRows(const Table& table, std::uint64_t first_row, std::span<float> out) const;

 private:
  std::unique_ptr<::onnx::ModelProto> proto_;
  Initializers initializers_;
  std::vector<Weight> weights_;
  std::vector<Table> tables_;
  std::unique_ptr<ColumnBands> bands_ = std::make_unique<ColumnBands>();
};

// True for a file named *.onnx, and for a folder with model.onnx or genai_config.json that is no
// checkpoint (has no safetensors).
bool LooksLikeOnnx(const std::filesystem::path& path);

}  // namespace phiq::onnx
