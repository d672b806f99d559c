// Nodes are made in the order in which they run; a constant that is asked for twice is made once,
// as the builder does.
#include "formats/onnx/graph.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/endian.h"

namespace phiq::onnx {
namespace {

void SetValueInfo(::onnx::ValueInfoProto& info, std::string_view name, DataType type,
                  const std::vector<Dim>& dims) {
  info.set_name(std::string(name));
  ::onnx::TypeProto_Tensor& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  ::onnx::TensorShapeProto& shape = *tensor.mutable_shape();
  for (const Dim& dim : dims) {
    if (const std::int64_t* value = std::get_if<std::int64_t>(&dim)) {
      shape.add_dim()->set_dim_value(*value);
    } else {
      shape.add_dim()->set_dim_param(std::get<std::string>(dim));
    }
  }
}

void SetAttribute(::onnx::AttributeProto& proto, const Attribute& attribute) {
  proto.set_name(attribute.first);
  if (const std::int64_t* i = std::get_if<std::int64_t>(&attribute.second)) {
    proto.set_type(::onnx::AttributeProto::INT);
    proto.set_i(*i);
  } else if (const float* f = std::get_if<float>(&attribute.second)) {
    proto.set_type(::onnx::AttributeProto::FLOAT);
    proto.set_f(*f);
  } else if (const std::string* s = std::get_if<std::string>(&attribute.second)) {
    proto.set_type(::onnx::AttributeProto::STRING);
    proto.set_s(*s);
  } else {
    proto.set_type(::onnx::AttributeProto::INTS);
    for (const std::int64_t value : std::get<std::vector<std::int64_t>>(attribute.second))
      proto.add_ints(value);
  }
}

}  // namespace

void GraphBuilder::AddInput(std::string_view name, DataType type, const std::vector<Dim>& dims) {
  SetValueInfo(*graph_.add_input(), name, type, dims);
}

void GraphBuilder::AddOutput(std::string_view name, DataType type, const std::vector<Dim>& dims) {
  SetValueInfo(*graph_.add_output(), name, type, dims);
}

std::string GraphBuilder::Add(std::string_view op, const std::string& name,
                              const std::vector<std::string>& inputs,
                              const std::vector<Attribute>& attributes) {
  std::string output = name + "/output_0";
  AddNode(op, "", name, inputs, {output}, attributes);
  return output;
}

::onnx::NodeProto& GraphBuilder::AddNode(std::string_view op, std::string_view domain,
                                         const std::string& name,
                                         const std::vector<std::string>& inputs,
                                         const std::vector<std::string>& outputs,
                                         const std::vector<Attribute>& attributes) {
  ::onnx::NodeProto& node = *graph_.add_node();
  for (const std::string& input : inputs) node.add_input(input);
  for (const std::string& output : outputs) node.add_output(output);
  node.set_name(name);
  node.set_op_type(std::string(op));
  if (!domain.empty()) node.set_domain(std::string(domain));
  for (const Attribute& attribute : attributes) SetAttribute(*node.add_attribute(), attribute);
  return node;
}

std::string GraphBuilder::Constant(std::int64_t value) {
  return AddConstant(fmt::format("{}", value), {value}, /*is_scalar=*/true);
}

std::string GraphBuilder::Constant(const std::vector<std::int64_t>& values) {
  return AddConstant(fmt::format("[{}]", fmt::join(values, ", ")), values, /*is_scalar=*/false);
}

std::string GraphBuilder::FloatConstant(float value) {
  const std::string label = fmt::format("{}", value);
  if (::onnx::TensorProto* const tensor = AddConstantNode("FLOAT", label)) {
    tensor->set_data_type(kFloat);
    std::string raw(sizeof(value), '\0');
    StoreLe(value, std::as_writable_bytes(std::span(raw)), 0);
    tensor->set_raw_data(std::move(raw));
  }
  return ConstantName("FLOAT", label);
}

std::string GraphBuilder::AddConstant(const std::string& label,
                                      const std::vector<std::int64_t>& values, bool is_scalar) {
  if (::onnx::TensorProto* const tensor = AddConstantNode("INT64", label)) {
    tensor->set_data_type(kInt64);
    if (!is_scalar) tensor->add_dims(static_cast<std::int64_t>(values.size()));
    std::string raw(values.size() * sizeof(std::int64_t), '\0');
    for (std::size_t i = 0; i < values.size(); ++i)
      StoreLe(values[i], std::as_writable_bytes(std::span(raw)), i * sizeof(std::int64_t));
    tensor->set_raw_data(std::move(raw));
  }
  return ConstantName("INT64", label);
}

std::string GraphBuilder::ConstantName(std::string_view type, const std::string& label) {
  return fmt::format("/model/constants/{}/{}", type, label);
}

::onnx::TensorProto* GraphBuilder::AddConstantNode(std::string_view type,
                                                   const std::string& label) {
  const auto [found, is_new] = constants_.insert(ConstantName(type, label));
  if (!is_new) return nullptr;
  ::onnx::NodeProto& node = AddNode(
      "Constant", "", fmt::format("/model/constant_nodes/{}/{}", type, label), {}, {*found});
  ::onnx::AttributeProto& value = *node.add_attribute();
  value.set_name("value");
  value.set_type(::onnx::AttributeProto::TENSOR);
  return value.mutable_t();
}

std::string GraphBuilder::AddInterleaved(const std::string& name, DataType type,
                                         const std::vector<std::uint64_t>& dims, std::size_t line,
                                         std::size_t between, std::size_t array) {
  AddStored(name, type, dims, line, array);
  stored_.back().between = between;
  return name;
}

std::string GraphBuilder::AddStored(const std::string& name, DataType type,
                                    const std::vector<std::uint64_t>& dims, std::size_t line,
                                    std::size_t array, Order order) {
  ::onnx::TensorProto& tensor = *graph_.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  for (const std::uint64_t dim : dims) tensor.add_dims(static_cast<std::int64_t>(dim));
  stored_.push_back({&tensor, line, array, order, std::nullopt});
  return name;
}

}  // namespace phiq::onnx
