// GGUF files put together field by field, apart from the code under test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace phiq::gguf::testing {

// Little-endian fields, one after the other.
class Bytes {
 public:
  template <typename T>
  Bytes& Put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  Bytes& U8(std::uint8_t value) { return Put(value); }
  Bytes& U16(std::uint16_t value) { return Put(value); }
  Bytes& U32(std::uint32_t value) { return Put(value); }
  Bytes& I32(std::int32_t value) { return Put(value); }
  Bytes& U64(std::uint64_t value) { return Put(value); }
  Bytes& I64(std::int64_t value) { return Put(value); }
  Bytes& Raw(std::string_view text) {
    text_ += text;
    return *this;
  }
  Bytes& Str(std::string_view text) { return U64(text.size()).Raw(text); }
  Bytes& Zeros(std::size_t n) {
    text_.append(n, '\0');
    return *this;
  }
  Bytes& PadTo(std::size_t alignment) {
    return Zeros((alignment - text_.size() % alignment) % alignment);
  }

  // "GGUF", version 3 and the counts.
  static Bytes Head(std::uint64_t n_tensors, std::uint64_t n_records) {
    return Bytes().Raw("GGUF").U32(3).U64(n_tensors).U64(n_records);
  }
  Bytes& TensorInfo(std::string_view name, const std::vector<std::uint64_t>& ne, std::int32_t type,
                    std::uint64_t offset) {
    Str(name).U32(static_cast<std::uint32_t>(ne.size()));
    for (const std::uint64_t n : ne) U64(n);
    return I32(type).U64(offset);
  }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// A folder that goes away with its test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "phiq-gguf-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path Write(std::string_view name, std::string_view content) const {
    const std::filesystem::path path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace phiq::gguf::testing
