// Reads ONNX model folders, trusting nothing in them.
#pragma once

#include <onnx/onnx_pb.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/onnx/wire_check.h"
#include "io/input_file.h"
#include "phiq/encoding.h"
#include "phiq/error.h"

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

// A weight as the graph uses it: one initializer, or codes, scales and zero points together.
struct Weight {
  // "model.layers.0.attn.qkv_proj.MatMul.weight": the unquantized tensor's name, from the node that
  // uses it.
  std::string name;
  // "model.embed_tokens.weight" when the head's weight is the embedding too.
  std::string shared_name;
  Encoding encoding;
  // As in the checkpoint: rows are out features, or the vocabulary.
  std::uint64_t n_rows = 0, row_elements = 0;
  bool transposed = false;  // stored as [row_elements, n_rows]
  // Initializers: codes or floats, scales, zero points.
  std::array<std::optional<std::size_t>, kMaxArrays> arrays;
};

// A table of the rotary embedding: an initializer, or a constant of the graph.
struct Table {
  std::string name;
  std::int32_t data_type = 0;
  std::vector<std::uint64_t> dims;
  std::uint64_t size_bytes = 0;
  std::optional<std::size_t> initializer;
  const ::onnx::TensorProto* constant = nullptr;  // with raw_data
};

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
  std::span<const Initializer> initializers() const noexcept { return initializers_; }
  const Initializer* Find(std::string_view name) const noexcept;  // the first of that name
  std::optional<std::size_t> FindIndex(std::string_view name) const noexcept;
  std::span<const Weight> weights() const noexcept { return weights_; }
  std::span<const Table> tables() const noexcept { return tables_; }
  std::span<const InputFile> files() const noexcept { return files_; }

  // What is wrong with the graph although it can be read: names that nothing defines, names with
  // two definitions, cycles.
  std::vector<std::string> FindGraphProblems() const;

  // Bytes [offset_bytes, offset_bytes + out.size()) of an initializer or table. Threads: safe.
  void Read(const Initializer& initializer, std::uint64_t offset_bytes,
            std::span<std::byte> out) const;
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
  void AddInitializers(const std::vector<std::optional<ByteRange>>& raw_data);

  std::unique_ptr<::onnx::ModelProto> proto_;
  std::vector<InputFile> files_;
  std::vector<Initializer> initializers_;
  std::unordered_map<std::string_view, std::size_t>
      index_;  // into initializers_; the names are theirs
  std::vector<Weight> weights_;
  std::vector<Table> tables_;
};

// True for a file named *.onnx, and for a folder with model.onnx or genai_config.json that is no
// checkpoint (has no safetensors).
bool LooksLikeOnnx(const std::filesystem::path& path) noexcept;

}  // namespace phiq::onnx
