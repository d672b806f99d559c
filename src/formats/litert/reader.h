// Reads .litertlm bundles and .tflite files, trusting nothing in them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/litert/bundle.h"
#include "formats/litert/tflite_generated.h"
#include "io/input_file.h"
#include "model/weights.h"
#include "phiq/encoding.h"
#include "phiq/error.h"

namespace phiq::litert {

// Bytes of the file.
struct Place {
  std::uint64_t offset_bytes = 0, size_bytes = 0;
};

// A constant that is larger than what a graph needs besides weights; or one of the model's weights.
struct StoredTensor {
  std::string name;
  Encoding encoding;
  std::uint64_t n_rows = 0, row_elements = 0;  // 0 of what phiq cannot decode
  std::vector<std::uint64_t> shape;
  std::string type;  // for people
  std::vector<Place> arrays;
  std::optional<std::string> refusal;  // why phiq cannot decode it

  std::uint64_t SizeBytes() const noexcept;
};

class File {
 public:
  // Throws   kInput: it cannot be read. kBadData: byte or section, value found and allowed.
  //          kUnsupported: a bundle without a model, or with several.
  // Memory   a few times the flatbuffer's size, which is at most limits::kLiteRtFlatbufferBytes;
  // the
  //          weights stay on disk.
  static File Open(const std::filesystem::path& path);

  const InputFile& file() const noexcept { return file_; }
  std::string path() const { return file_.path().string(); }
  // Of a bundle; of a bare model none.
  const std::vector<Section>& sections() const noexcept { return sections_; }
  const Section* FindSection(SectionType type) const noexcept;  // the first of that type
  std::string ReadSection(const Section& section, std::uint64_t max_bytes) const;

  // The flatbuffer as it stands in the file, verified.
  std::span<const std::byte> flatbuffer() const noexcept { return flatbuffer_; }
  const tflite::Model& model() const noexcept { return *tflite::GetModel(flatbuffer_.data()); }
  // nullptr: there is no such text.
  const std::string* FindMetadata(std::string_view name) const noexcept;
  const std::vector<std::pair<std::string, std::string>>& metadata() const noexcept {
    return metadata_;
  }

  std::span<const StoredTensor> tensors() const noexcept { return tensors_; }

  // Decodes rows [first_row, first_row + n_rows) of a tensor.
  //
  // Shapes    out: [n_rows * row_elements].
  // Threads   safe, with a codec for each.
  void ReadRows(const StoredTensor& tensor, std::uint64_t first_row, std::uint64_t n_rows,
                RowCodec& codec, std::span<float> out) const;

 private:
  explicit File(InputFile file) : file_(std::move(file)) {}
  void ReadBundleHeader();
  void ReadFlatbuffer();
  void ReadMetadata();
  void FindTensors();
  Error Bad(std::uint64_t offset_bytes, std::string message) const;

  InputFile file_;
  std::vector<Section> sections_;
  Place model_;  // of the .tflite
  std::vector<std::byte> flatbuffer_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<StoredTensor> tensors_;
};

// The text of a kZlibTokenizer section.
// Throws   kBadData: no such stream, or one of another size than it says.
std::string DecompressTokenizer(std::string_view section, const std::string& path);

}  // namespace phiq::litert
