// The bytes of a GGUF file before its tensor data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf/value.h"
#include "phiq/ggml_type.h"

namespace phiq::gguf {

struct TensorInfo {
  std::string name;
  std::vector<std::uint64_t> shape;  // rows first; written in the opposite order
  GgmlType type = GgmlType::kF32;
  std::uint64_t offset_bytes = 0;  // from the start of the tensor data
};

// Padded with zeros to kAlignment: the tensor data begins where the header ends.
std::vector<std::byte> EncodeHeader(const Metadata& metadata, std::span<const TensorInfo> tensors);

}  // namespace phiq::gguf
