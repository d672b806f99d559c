// A folder per test, and safetensors files of any bytes in it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/error.h"

namespace phiq {

class Scratch {
 public:
  Scratch() {
    std::string pattern = testing::TempDir() + "phiq-checkpoint-XXXXXX";
    if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Writes a file; its folders are made as needed.
  std::filesystem::path Write(const std::string& name, std::string_view content) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }

 private:
  std::filesystem::path path_;
};

// The 8 little-endian bytes of `n`.
inline std::string LengthField(std::uint64_t n) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<unsigned char>(n >> (8 * i)));
  return bytes;
}

inline std::string SafetensorsFile(std::string_view header, std::string_view data) {
  return LengthField(header.size()) + std::string(header) + std::string(data);
}

// What a call throws: its code and text; {0, ""} when it does not throw.
struct Failure {
  int code = 0;
  std::string text;
};

template <typename Call>
Failure FailureOf(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return {static_cast<int>(error.code()), error.what()};
  }
  return {};
}

// Warnings in the order they came.
struct Warnings {
  std::vector<std::string> texts;
  WarningFn fn() {
    return [this](const Warning& warning) { texts.push_back(warning.text); };
  }
};

}  // namespace phiq
