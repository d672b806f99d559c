// Attributes of a node, by name and type.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "phiq/error.h"

namespace phiq::onnx {

// "node 'NAME': OPERATOR MESSAGE".
Error NodeError(const ::onnx::NodeProto& node, std::string_view message,
                ErrorCode code = ErrorCode::kBadData);

// nullptr: the node has none of that name. Throws kBadData: it has two.
const ::onnx::AttributeProto* FindAttribute(const ::onnx::NodeProto& node, std::string_view name);

// The value of an attribute, or `otherwise` when it is not there.
//
// Throws   kBadData: of another type; not there and there is no `otherwise`.
std::int64_t IntegerOf(const ::onnx::NodeProto& node, std::string_view name,
                       std::optional<std::int64_t> otherwise);
float FloatOf(const ::onnx::NodeProto& node, std::string_view name, std::optional<float> otherwise);

}  // namespace phiq::onnx
