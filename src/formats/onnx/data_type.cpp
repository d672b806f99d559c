// A table of our own, since installed schemas are older than the types of 4 and 2 bits.
#include "formats/onnx/data_type.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

namespace phiq::onnx {
namespace {

struct TypeInfo {
  std::string_view name;
  unsigned bits;  // 0: strings
};

// Indexed by the number in the file.
constexpr std::array<TypeInfo, 27> kTypes = {
    {{"UNDEFINED", 0},      {"FLOAT", 32},     {"UINT8", 8},
     {"INT8", 8},           {"UINT16", 16},    {"INT16", 16},
     {"INT32", 32},         {"INT64", 64},     {"STRING", 0},
     {"BOOL", 8},           {"FLOAT16", 16},   {"DOUBLE", 64},
     {"UINT32", 32},        {"UINT64", 64},    {"COMPLEX64", 64},
     {"COMPLEX128", 128},   {"BFLOAT16", 16},  {"FLOAT8E4M3FN", 8},
     {"FLOAT8E4M3FNUZ", 8}, {"FLOAT8E5M2", 8}, {"FLOAT8E5M2FNUZ", 8},
     {"UINT4", 4},          {"INT4", 4},       {"FLOAT4E2M1", 4},
     {"FLOAT8E8M0", 8},     {"UINT2", 2},      {"INT2", 2}}};

}  // namespace

std::string DataTypeName(std::int32_t data_type) {
  if (data_type < 0 || std::cmp_greater_equal(data_type, kTypes.size())) {
    return fmt::format("type {}", data_type);
  }
  return std::string(kTypes[static_cast<std::size_t>(data_type)].name);
}

std::optional<unsigned> DataTypeBits(std::int32_t data_type) noexcept {
  if (data_type < 0 || std::cmp_greater_equal(data_type, kTypes.size())) return std::nullopt;
  const unsigned bits = kTypes[static_cast<std::size_t>(data_type)].bits;
  return bits == 0 ? std::nullopt : std::optional(bits);
}

std::optional<GgmlType> FloatTypeOf(std::int32_t data_type) noexcept {
  switch (data_type) {
    case kFloat:
      return GgmlType::kF32;
    case kFloat16:
      return GgmlType::kF16;
    case kBfloat16:
      return GgmlType::kBF16;
    default:
      return std::nullopt;
  }
}

}  // namespace phiq::onnx
