// Reads GGUF files, trusting nothing in them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf/value.h"
#include "io/input_file.h"
#include "phiq/encoding.h"
#include "phiq/error.h"
#include "phiq/ggml_type.h"

namespace phiq::gguf {

struct Tensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<std::uint64_t> shape;  // rows first (the file's order reversed)
  std::size_t part = 0;              // index into File::parts()
  std::uint64_t offset_bytes = 0;    // from the start of that part
  std::uint64_t size_bytes = 0;
};

// A GGUF file, or all parts of a split one (opened by any part's name).
class File {
 public:
  // Throws   kInput: a part is missing. kBadData: key or tensor, value found and allowed.
  //          kUnsupported: another version or byte order, a tensor type that phiq does not do.
  // Warns    tokenizer arrays of different lengths and the like.
  static File Open(const std::filesystem::path& path, const WarningFn& warn);

  const Metadata& metadata() const noexcept { return metadata_; }
  std::span<const Tensor> tensors() const noexcept { return tensors_; }
  const Tensor* FindTensor(std::string_view name) const noexcept;
  std::span<const InputFile> parts() const noexcept { return parts_; }

  // Bytes [offset_bytes, offset_bytes + out.size()) of a tensor. Threads: safe.
  void Read(const Tensor& tensor, std::uint64_t offset_bytes, std::span<std::byte> out) const;

  // Decodes rows [first_row, first_row + n_rows) of a tensor.
  //
  // Shapes    out: [n_rows * the last dimension].
  // Threads   safe, with a codec for each.
  void ReadRows(const Tensor& tensor, std::uint64_t first_row, std::uint64_t n_rows,
                RowCodec& codec, std::span<float> out) const;

 private:
  Metadata metadata_;  // of the first part, without the split keys
  std::vector<Tensor> tensors_;
  std::vector<InputFile> parts_;
};

// True when the file begins with GGUF's magic bytes.
bool LooksLikeGguf(const std::filesystem::path& path);

}  // namespace phiq::gguf
