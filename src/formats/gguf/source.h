// Sequential reading of one file: GGUF's header, an importance matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.h"
#include "phiq/error.h"

namespace phiq::gguf {

// Reads forward through a buffer; nothing is allocated for a length before the file is known to
// hold that many bytes.
class Source {
 public:
  explicit Source(const InputFile& file);

  std::uint64_t offset_bytes() const noexcept { return offset_bytes_; }
  std::uint64_t remaining_bytes() const noexcept { return file_.size() - offset_bytes_; }

  // `what` names the thing for messages ("tensor count").
  template <typename T>
  T Read(std::string_view what) {
    T value;
    ReadBytes(std::as_writable_bytes(std::span(&value, 1)), what);
    return value;
  }
  // A u64 length and that many bytes.
  std::string ReadString(std::uint64_t max_bytes, std::string_view what);
  void ReadBytes(std::span<std::byte> out, std::string_view what);
  void Skip(std::uint64_t n_bytes, std::string_view what);

  // kBadData at the current position.
  Error BadData(std::string message) const;

 private:
  void CheckRemaining(std::uint64_t n_bytes, std::string_view what) const;

  const InputFile& file_;
  std::uint64_t offset_bytes_ = 0;
  std::vector<std::byte> buffer_;
  std::uint64_t buffer_offset_bytes_ = 0;
  std::size_t buffered_bytes_ = 0;
};

}  // namespace phiq::gguf
