// What a TensorProto says about its data, checked: type, dimensions, and where the bytes are.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace phiq::onnx {

struct ExternalPlace {
  std::string location;
  std::uint64_t offset_bytes = 0;
};

struct TensorData {
  std::vector<std::uint64_t> dims;
  std::uint64_t size_bytes = 0;           // as type and dims have it; 0 for strings
  std::optional<ExternalPlace> external;  // else raw_data or typed data, of the right size
};

// Checks everything that needs no other file.
//
// Throws   kBadData: dims negative or too many, sizes that do not agree, data in two places,
// external
//          data whose numbers or location are wrong. kUnsupported: unknown types, segments.
TensorData CheckTensor(const ::onnx::TensorProto& tensor);

// The bytes of float_data, int32_data, ...; requires CheckTensor to have passed.
std::vector<std::byte> TypedBytes(const ::onnx::TensorProto& tensor);
bool HasTypedData(const ::onnx::TensorProto& tensor) noexcept;

// Why a location is no plain path below the model's folder; empty when it is one.
std::string_view LocationProblem(std::string_view location) noexcept;

}  // namespace phiq::onnx
