// Walks the wire format of a ModelProto before protobuf's parser sees it: errors with byte offsets,
// and limits on nesting, counts and memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "io/input_file.h"

namespace phiq::onnx {

struct ByteRange {
  std::uint64_t offset_bytes = 0, size_bytes = 0;
};

struct WireFacts {
  // Where raw_data of the main graph's initializers is, in their order; nullopt: it has none.
  std::vector<std::optional<ByteRange>> raw_data;
};

// Accepts what protobuf accepts: repeated singular fields, packed and unpacked numbers, unknown
// fields and groups.
//
// Limits    kOnnxFileBytes, kOnnxDepth, kOnnxEntries, kOnnxParsedBytes.
// Throws    kBadData.
// Memory    one buffer; the file is not held. The stack does not grow with nesting.
WireFacts CheckWire(const InputFile& file);

}  // namespace phiq::onnx
