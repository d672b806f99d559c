// Reads OpenVINO model folders, trusting nothing in them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/openvino/ir_reader.h"
#include "io/input_file.h"
#include "model/weights.h"
#include "phiq/encoding.h"
#include "phiq/error.h"

namespace phiq::openvino {

// A Const layer and its bytes in the .bin file.
struct StoredConst {
  std::size_t layer = 0;  // index into Ir::layers
  std::string name;
  std::string type_name;            // "u8"
  std::optional<ElementType> type;  // nullopt: one that phiq does not know
  std::vector<std::uint64_t> dims;
  std::uint64_t offset_bytes = 0, size_bytes = 0;
};

// One of the model's weights: floats, or codes, scales and zero points.
struct Weight {
  std::string name;             // of the layer that holds floats or codes
  std::string checkpoint_name;  // "model.layers.3.mlp.down_proj.weight"
  WeightId id;
  Encoding encoding;
  std::uint64_t n_rows = 0, row_elements = 0;                 // vectors: 1 x n
  std::uint64_t n_matrices = 1;                               // of experts, which share the rows
  std::array<std::optional<std::size_t>, kMaxArrays> arrays;  // index into Folder::constants()
};

class Folder {
 public:
  // `path`   the folder with openvino_model.xml, or the .xml in it.
  //
  // Throws   kInput: a file is missing. kBadData: byte offset or layer, value found and allowed.
  //          kUnsupported: versions and types of weights that phiq does not do.
  // Memory   a few times the size of the .xml; the .bin stays on disk.
  static Folder Open(const std::filesystem::path& path);

  const Ir& ir() const noexcept { return graph_.ir; }
  std::span<const StoredConst> constants() const noexcept { return constants_; }
  const StoredConst* FindConstant(std::string_view name) const noexcept;  // the first of that name
  std::span<const Weight> weights() const noexcept { return weights_; }
  std::span<const InputFile> files() const noexcept { return files_; }  // the .xml, the .bin
  std::filesystem::path parent() const;

  // What is wrong with the graph although it can be read (ReadXml, FindGraphProblems), and bytes of
  // the .bin behind all constants.
  std::vector<std::string> FindProblems() const;

  // A leaf of the model's rt_info: {"phiq", "type"}; nullptr: there is none.
  const std::string* FindInfo(std::initializer_list<std::string_view> keys) const noexcept;

  // Bytes [offset_bytes, offset_bytes + out.size()) of a constant. Threads: safe.
  void Read(const StoredConst& constant, std::uint64_t offset_bytes,
            std::span<std::byte> out) const;
  // All of a small one: numbers of type T.
  // Throws   kBadData: of another type, or not `n` of them.
  template <typename T>
  std::vector<T> ReadNumbers(const StoredConst& constant, ElementType type, std::size_t n) const {
    CheckNumbers(constant, type, n);
    std::vector<T> numbers(n);
    Read(constant, 0, std::as_writable_bytes(std::span(numbers)));
    return numbers;
  }

  std::uint64_t SizeBytes(const Weight& weight) const noexcept;  // of all arrays

  // Decodes rows [first_row, first_row + n_rows) of a weight.
  //
  // Shapes    out: [n_rows * row_elements].
  // Threads   safe, with a codec for each.
  void ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                RowCodec& codec, std::span<float> out) const;

 private:
  void FindConstants();
  void FindWeights();
  void CheckNumbers(const StoredConst& constant, ElementType type, std::size_t n) const;
  Error Bad(const StoredConst& constant, std::string message) const;

  std::vector<InputFile> files_;
  ReadIr graph_;
  std::vector<std::string> problems_;  // of ReadXml
  std::vector<StoredConst> constants_;
  std::unordered_map<std::string_view, std::size_t>
      index_;  // into constants_; the names are theirs
  std::vector<Weight> weights_;
};

// True for a file named *.xml, and for a folder with openvino_model.xml that is no checkpoint (has
// no safetensors).
bool LooksLikeOpenVino(const std::filesystem::path& path);

// Whether phiq wrote it.
bool IsOurs(const Folder& folder) noexcept;

}  // namespace phiq::openvino
