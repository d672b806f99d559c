// A graph comes from anywhere: an attribute of another type is an error that names its node.
#include "formats/onnx/attributes.h"

#include <fmt/format.h>

#include "phiq/text.h"

namespace phiq::onnx {
namespace {

// nullptr: not there, but `may_lack`.
const ::onnx::AttributeProto* TypedAttribute(const ::onnx::NodeProto& node, std::string_view name,
                                             ::onnx::AttributeProto::AttributeType type,
                                             std::string_view wanted, bool may_lack) {
  const ::onnx::AttributeProto* const attribute = FindAttribute(node, name);
  if (attribute == nullptr) {
    if (may_lack) return nullptr;
    throw NodeError(node, fmt::format("has no attribute '{}'", name));
  }
  if (attribute->type() != type)
    throw NodeError(node, fmt::format("attribute '{}' is not {}", name, wanted));
  return attribute;
}

}  // namespace

Error NodeError(const ::onnx::NodeProto& node, std::string_view message, ErrorCode code) {
  return Error(
      code, fmt::format("node '{}': {} {}", Escape(node.name()), Escape(node.op_type()), message));
}

const ::onnx::AttributeProto* FindAttribute(const ::onnx::NodeProto& node, std::string_view name) {
  const ::onnx::AttributeProto* found = nullptr;
  for (const ::onnx::AttributeProto& attribute : node.attribute()) {
    if (attribute.name() != name) continue;
    if (found != nullptr) throw NodeError(node, fmt::format("has two attributes '{}'", name));
    found = &attribute;
  }
  return found;
}

std::int64_t IntegerOf(const ::onnx::NodeProto& node, std::string_view name,
                       std::optional<std::int64_t> otherwise) {
  const ::onnx::AttributeProto* const attribute =
      TypedAttribute(node, name, ::onnx::AttributeProto::INT, "an integer", otherwise.has_value());
  return attribute == nullptr ? *otherwise : attribute->i();
}

float FloatOf(const ::onnx::NodeProto& node, std::string_view name,
              std::optional<float> otherwise) {
  const ::onnx::AttributeProto* const attribute =
      TypedAttribute(node, name, ::onnx::AttributeProto::FLOAT, "a float", otherwise.has_value());
  return attribute == nullptr ? *otherwise : attribute->f();
}

}  // namespace phiq::onnx
