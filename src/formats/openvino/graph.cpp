// Shapes are worked out as the operators are added: the file has to say them, and a graph that does
// not fit is a fault of ours that shows here.
#include "formats/openvino/graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>

#include "base/checked.h"

namespace phiq::openvino {
namespace {

// Larger ones are hardly ever equal.
constexpr std::size_t kSharedConstantBytes = 4096;
constexpr std::uint64_t kConstantAlignment = 8;  // the largest element is a 64-bit integer

std::string Lower(bool value) { return value ? "true" : "false"; }

OutputPort Port(ElementType type, Dims dims) {
  return {std::string(PrecisionName(type)), std::move(dims), ""};
}

// Counted from the front.
std::size_t AxisOf(std::int64_t axis, std::size_t rank) {
  return axis < 0 ? rank - static_cast<std::size_t>(-axis) : static_cast<std::size_t>(axis);
}

std::int64_t BroadcastDim(std::int64_t a, std::int64_t b) {
  if (a == 1) return b;
  if (b == 1) return a;
  return a == kDynamic ? b : a;
}

Dims BroadcastDims(const Dims& a, const Dims& b) {
  Dims dims(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const std::int64_t left = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t right = i < b.size() ? b[b.size() - 1 - i] : 1;
    dims[dims.size() - 1 - i] = BroadcastDim(left, right);
  }
  return dims;
}

bool GivesBoolean(std::string_view type) {
  return type == "LessEqual" || type == "Greater" || type == "NotEqual" || type == "LogicalAnd" ||
         type == "BitwiseAnd";
}

std::uint64_t ElementCount(const Dims& dims) {
  return std::accumulate(
      dims.begin(), dims.end(), std::uint64_t{1},
      [](std::uint64_t n, std::int64_t dim) { return n * static_cast<std::uint64_t>(dim); });
}

Attributes ConstantAttributes(ElementType type, const Dims& dims, std::uint64_t offset_bytes,
                              std::uint64_t size_bytes) {
  return {{"element_type", std::string(TypeName(type))},
          {"shape", ShapeText(dims)},
          {"offset", fmt::format("{}", offset_bytes)},
          {"size", fmt::format("{}", size_bytes)}};
}

}  // namespace

std::size_t GraphBuilder::AddLayer(std::string_view type, std::string_view version,
                                   const std::string& name, std::vector<Value> inputs,
                                   std::vector<OutputPort> outputs, Attributes attributes) {
  Layer layer;
  layer.name = name;
  layer.type = type;
  layer.version = version;
  layer.inputs = std::move(inputs);
  layer.outputs = std::move(outputs);
  layer.attributes = std::move(attributes);
  ir_.layers.push_back(std::move(layer));
  return ir_.layers.size() - 1;
}

Value GraphBuilder::Parameter(const std::string& name, ElementType type, const Dims& dims) {
  OutputPort port = Port(type, dims);
  port.names = name;
  return Add("Parameter", "opset1", name, {}, std::move(port),
             {{"shape", ShapeText(dims)}, {"element_type", std::string(TypeName(type))}});
}

void GraphBuilder::Result(const std::string& name, Value value) {
  ir_.layers[value.layer].outputs[value.output].names = name;
  const std::size_t layer = AddLayer("Result", "opset1", name + "/Result", {value}, {});
  ir_.layers[layer].output_names = name;
}

Value GraphBuilder::Constant(std::int64_t value, std::string name) {
  return Constant(ElementType::kI64, {}, std::as_bytes(std::span(&value, 1)), std::move(name));
}

Value GraphBuilder::Constant(const std::vector<std::int64_t>& values) {
  return Constant(ElementType::kI64, {static_cast<std::int64_t>(values.size())},
                  std::as_bytes(std::span(values)));
}

Value GraphBuilder::Constant(float value, const Dims& dims, std::string name) {
  assert(ElementCount(dims) == 1);
  return Constant(ElementType::kF32, dims, std::as_bytes(std::span(&value, 1)), std::move(name));
}

Value GraphBuilder::Constant(ElementType type, const Dims& dims, std::span<const std::byte> bytes,
                             std::string name) {
  assert(bytes.size() == ElementCount(dims) * BitsOf(type) / 8);
  // A constant without elements takes a byte, too: runtimes refuse a size of 0.
  const std::byte nothing{};
  if (bytes.empty()) bytes = std::span(&nothing, 1);
  const auto append = [&] {
    data_.resize(AlignUp(data_.size(), kConstantAlignment).value());
    const std::uint64_t offset_bytes = data_.size();
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return offset_bytes;
  };
  std::uint64_t offset_bytes = 0;
  if (bytes.size() > kSharedConstantBytes) {
    offset_bytes = append();
  } else {
    const std::string key(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto [found, is_new] = offsets_.try_emplace(key);
    if (is_new) found->second = append();
    offset_bytes = found->second;
  }
  if (name.empty()) name = fmt::format("Constant_{}", n_constants_++);
  return Add("Const", "opset1", name, {}, Port(type, dims),
             ConstantAttributes(type, dims, offset_bytes, bytes.size()));
}

Value GraphBuilder::Stored(const std::string& name, ElementType type, const Dims& dims,
                           std::size_t line, std::size_t array) {
  const std::uint64_t size_bytes = (ElementCount(dims) * BitsOf(type) + 7) / 8;
  const Value value = Add("Const", "opset1", name, {}, Port(type, dims),
                          ConstantAttributes(type, dims, /*offset_bytes=*/0, size_bytes));
  stored_.push_back({value.layer, line, array, size_bytes});
  return value;
}

Value GraphBuilder::ReadValue(const std::string& variable, Value initial, ElementType type,
                              const Dims& dims) {
  return Add("ReadValue", "opset6", "ReadValue/" + variable, {initial},
             Port(ElementType::kF32, dims),
             {{"variable_id", variable},
              {"variable_type", std::string(TypeName(type))},
              {"variable_shape", ShapeText(dims)}});
}

void GraphBuilder::Assign(const std::string& variable, Value value) {
  OutputPort port = PortOf(value);
  port.names.clear();
  AddLayer("Assign", "opset6", "Assign/" + variable, {value}, {std::move(port)},
           {{"variable_id", variable}});
}

Value GraphBuilder::Convert(const std::string& name, Value x, ElementType type,
                            bool is_decompression) {
  const Value value = Add("Convert", "opset1", name, {x}, Port(type, DimsOf(x)),
                          {{"destination_type", std::string(TypeName(type))}});
  ir_.layers[value.layer].is_decompression = is_decompression;
  return value;
}

Value GraphBuilder::Unary(std::string_view type, std::string_view version, const std::string& name,
                          Value x) {
  return Add(type, version, name, {x}, {PrecisionOf(x), DimsOf(x), ""});
}

Value GraphBuilder::Binary(std::string_view type, const std::string& name, Value a, Value b) {
  Attributes attributes = {{"auto_broadcast", "numpy"}};
  if (type == "Divide") attributes.emplace_back("m_pythondiv", "true");
  OutputPort port = {GivesBoolean(type) ? "BOOL" : PrecisionOf(a),
                     BroadcastDims(DimsOf(a), DimsOf(b)), ""};
  return Add(type, type == "BitwiseAnd" ? "opset13" : "opset1", name, {a, b}, std::move(port),
             std::move(attributes));
}

Value GraphBuilder::Select(const std::string& name, Value condition, Value then, Value otherwise) {
  return Add("Select", "opset1", name, {condition, then, otherwise},
             {PrecisionOf(then),
              BroadcastDims(DimsOf(condition), BroadcastDims(DimsOf(then), DimsOf(otherwise))), ""},
             {{"auto_broadcast", "numpy"}});
}

Value GraphBuilder::MatMul(const std::string& name, Value a, Value b, bool transpose_b) {
  Dims left = DimsOf(a), right = DimsOf(b);
  const std::int64_t n_rows = left[left.size() - 2];
  const std::int64_t n_columns = transpose_b ? right[right.size() - 2] : right.back();
  left.resize(left.size() - 2);
  right.resize(right.size() - 2);
  Dims dims = BroadcastDims(left, right);
  dims.push_back(n_rows);
  dims.push_back(n_columns);
  return Add("MatMul", "opset1", name, {a, b}, {PrecisionOf(a), std::move(dims), ""},
             {{"transpose_a", "false"}, {"transpose_b", Lower(transpose_b)}});
}

Value GraphBuilder::Gather(const std::string& name, Value data, Value indices, std::int64_t axis) {
  const Dims& from = DimsOf(data);
  const auto at = static_cast<std::ptrdiff_t>(AxisOf(axis, from.size()));
  Dims dims(from.begin(), from.begin() + at);
  dims.insert(dims.end(), DimsOf(indices).begin(), DimsOf(indices).end());
  dims.insert(dims.end(), from.begin() + at + 1, from.end());
  std::string precision = PrecisionOf(data);
  return Add("Gather", "opset8", name, {data, indices, Constant(axis)},
             {std::move(precision), std::move(dims), ""}, {{"batch_dims", "0"}});
}

Value GraphBuilder::Reshape(const std::string& name, Value x,
                            const std::vector<std::int64_t>& shape, bool special_zero) {
  Dims dims = shape;
  for (std::size_t i = 0; i < dims.size() && special_zero; ++i)
    if (dims[i] == 0) dims[i] = DimsOf(x)[i];
  std::string precision = PrecisionOf(x);
  return Add("Reshape", "opset1", name, {x, Constant(shape)},
             {std::move(precision), std::move(dims), ""}, {{"special_zero", Lower(special_zero)}});
}

Value GraphBuilder::Transpose(const std::string& name, Value x,
                              const std::vector<std::int64_t>& order) {
  Dims dims;
  for (const std::int64_t axis : order) dims.push_back(DimsOf(x)[static_cast<std::size_t>(axis)]);
  std::string precision = PrecisionOf(x);
  return Add("Transpose", "opset1", name, {x, Constant(order)},
             {std::move(precision), std::move(dims), ""});
}

Value GraphBuilder::Unsqueeze(const std::string& name, Value x, std::int64_t axis) {
  Dims dims = DimsOf(x);
  dims.insert(dims.begin() + axis, 1);
  std::string precision = PrecisionOf(x);
  return Add("Unsqueeze", "opset1", name, {x, Constant(std::vector<std::int64_t>{axis})},
             {std::move(precision), std::move(dims), ""});
}

Value GraphBuilder::Concat(const std::string& name, const std::vector<Value>& parts,
                           std::int64_t axis) {
  Dims dims = DimsOf(parts.front());
  std::int64_t& sum = dims[AxisOf(axis, dims.size())];
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::int64_t dim = DimsOf(parts[i])[AxisOf(axis, dims.size())];
    sum = sum == kDynamic || dim == kDynamic ? kDynamic : sum + dim;
  }
  return Add("Concat", "opset1", name, parts, {PrecisionOf(parts.front()), std::move(dims), ""},
             {{"axis", fmt::format("{}", axis)}});
}

std::vector<Value> GraphBuilder::Split(const std::string& name, Value x, std::int64_t axis,
                                       const std::vector<std::int64_t>& lengths) {
  std::vector<OutputPort> outputs;
  for (const std::int64_t length : lengths) {
    outputs.push_back({PrecisionOf(x), DimsOf(x), ""});
    outputs.back().dims[AxisOf(axis, DimsOf(x).size())] = length;
  }
  const Value axis_value = Constant(axis);
  const Value length_values = Constant(lengths);
  const std::size_t layer =
      AddLayer("VariadicSplit", "opset1", name, {x, axis_value, length_values}, std::move(outputs));
  std::vector<Value> parts;
  for (std::size_t i = 0; i < lengths.size(); ++i) parts.push_back({layer, i});
  return parts;
}

Value GraphBuilder::SliceFrom(const std::string& name, Value x, std::int64_t axis,
                              std::int64_t first) {
  OutputPort port = PortOf(x);
  std::int64_t& dim = port.dims[AxisOf(axis, port.dims.size())];
  if (dim != kDynamic) dim -= first;
  const auto one = [&](std::int64_t value) { return Constant(std::vector<std::int64_t>{value}); };
  const Value start = one(first), stop = one(std::numeric_limits<std::int64_t>::max()),
              step = one(1), axes = one(axis);
  return Add("Slice", "opset8", name, {x, start, stop, step, axes}, std::move(port));
}

Value GraphBuilder::Reduce(std::string_view type, const std::string& name, Value x,
                           const std::vector<std::int64_t>& axes, bool keep_dims) {
  Dims dims = DimsOf(x);
  constexpr std::int64_t kGone = -2;  // no dimension is
  const std::size_t rank = dims.size();
  for (const std::int64_t axis : axes) dims[AxisOf(axis, rank)] = keep_dims ? 1 : kGone;
  std::erase(dims, kGone);
  std::string precision = PrecisionOf(x);
  return Add(type, "opset1", name, {x, Constant(axes)}, {std::move(precision), std::move(dims), ""},
             {{"keep_dims", Lower(keep_dims)}});
}

Value GraphBuilder::ShapeOf(const std::string& name, Value x) {
  return Add("ShapeOf", "opset3", name, {x},
             Port(ElementType::kI64, {static_cast<std::int64_t>(DimsOf(x).size())}),
             {{"output_type", "i64"}});
}

Value GraphBuilder::Broadcast(const std::string& name, Value x, Value shape, std::string_view mode,
                              const Dims& dims) {
  return Add("Broadcast", "opset3", name, {x, shape}, {PrecisionOf(x), dims, ""},
             {{"mode", std::string(mode)}});
}

Value GraphBuilder::Tile(const std::string& name, Value x,
                         const std::vector<std::int64_t>& repeats) {
  Dims dims = DimsOf(x);
  for (std::size_t i = 0; i < dims.size(); ++i)
    if (dims[i] != kDynamic) dims[i] *= repeats[i];
  std::string precision = PrecisionOf(x);
  return Add("Tile", "opset1", name, {x, Constant(repeats)},
             {std::move(precision), std::move(dims), ""});
}

Value GraphBuilder::Mvn(const std::string& name, Value x, float epsilon) {
  std::string precision = PrecisionOf(x);
  Dims dims = DimsOf(x);
  return Add("MVN", "opset6", name, {x, Constant(std::vector<std::int64_t>{-1})},
             {std::move(precision), std::move(dims), ""},
             {{"eps", fmt::format("{}", epsilon)},
              {"normalize_variance", "true"},
              {"eps_mode", "INSIDE_SQRT"}});
}

Value GraphBuilder::Softmax(const std::string& name, Value x, std::int64_t axis) {
  return Add("SoftMax", "opset8", name, {x}, {PrecisionOf(x), DimsOf(x), ""},
             {{"axis", fmt::format("{}", axis)}});
}

std::vector<Value> GraphBuilder::Top(const std::string& name, Value x) {
  Dims dims = DimsOf(x);
  dims.back() = 1;
  std::string precision = PrecisionOf(x);
  const Value one = Constant(std::int64_t{1});
  const std::size_t layer =
      AddLayer("TopK", "opset11", name, {x, one},
               {{std::move(precision), dims, ""}, Port(ElementType::kI64, dims)},
               {{"axis", "-1"},
                {"mode", "max"},
                {"sort", "value"},
                {"index_element_type", "i64"},
                {"stable", "true"}});
  return {{layer, 0}, {layer, 1}};
}

Value GraphBuilder::GatherElements(const std::string& name, Value data, Value indices,
                                   std::int64_t axis) {
  return Add("GatherElements", "opset6", name, {data, indices},
             {PrecisionOf(data), DimsOf(indices), ""}, {{"axis", fmt::format("{}", axis)}});
}

Value GraphBuilder::ScatterElements(const std::string& name, Value data, Value indices,
                                    Value updates, std::int64_t axis) {
  std::string precision = PrecisionOf(data);
  Dims dims = DimsOf(data);
  return Add("ScatterElementsUpdate", "opset3", name, {data, indices, updates, Constant(axis)},
             {std::move(precision), std::move(dims), ""});
}

Value GraphBuilder::ReshapeLike(const std::string& name, Value x, Value other) {
  const Value shape = ShapeOf(name + "/shape", other);
  return Add("Reshape", "opset1", name, {x, shape}, {PrecisionOf(x), DimsOf(other), ""},
             {{"special_zero", "false"}});
}

Value GraphBuilder::Range(const std::string& name, Value start, Value stop, Value step,
                          ElementType type) {
  return Add("Range", "opset4", name, {start, stop, step}, Port(type, {kDynamic}),
             {{"output_type", std::string(TypeName(type))}});
}

}  // namespace phiq::openvino
