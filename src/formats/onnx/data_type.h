// The element types of ONNX tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "phiq/ggml_type.h"

namespace phiq::onnx {

// TensorProto.DataType, with the types that are newer than the installed schema. On disk: never
// renumber.
enum DataType : std::int32_t {
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kFloat16 = 10,
  kBfloat16 = 16,
  kUint4 = 21,
  kInt4 = 22,
};

std::string DataTypeName(std::int32_t data_type);                       // "FLOAT16", "type 99"
std::optional<unsigned> DataTypeBits(std::int32_t data_type) noexcept;  // nullopt: strings, unknown
std::optional<GgmlType> FloatTypeOf(std::int32_t data_type) noexcept;   // FLOAT, FLOAT16, BFLOAT16

}  // namespace phiq::onnx
