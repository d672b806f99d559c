// What the tests of GGUF types share: rows in and out, hex, names, random rows.
#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ggml_rows.h"
#include "phiq/ggml_type.h"

namespace phiq {

inline std::vector<std::byte> Quantize(GgmlType type, std::span<const float> x) {
  std::vector<std::byte> bytes(GgmlRowBytes(type, x.size()));
  QuantizeGgmlRow(type, x, bytes);
  return bytes;
}

inline std::vector<float> Dequantize(GgmlType type, std::span<const std::byte> bytes) {
  const GgmlTypeInfo& info = GetGgmlTypeInfo(type);
  std::vector<float> x(bytes.size() / info.block_bytes * info.block_size);
  DequantizeGgmlRow(type, bytes, x);
  return x;
}

inline std::string ToHex(std::span<const std::byte> bytes) {
  std::string hex;
  for (const std::byte b : bytes) {
    hex += "0123456789abcdef"[std::to_integer<int>(b >> 4)];
    hex += "0123456789abcdef"[std::to_integer<int>(b & std::byte{15})];
  }
  return hex;
}

// GoogleTest wants names of letters and digits: "Q4_K" becomes "Q4K".
inline std::string TestName(GgmlType type) {
  std::string name(GetGgmlTypeInfo(type).name);
  std::erase(name, '_');
  return name;
}

}  // namespace phiq
