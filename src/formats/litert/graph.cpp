// The shapes of operators' results.
#include "formats/litert/graph.h"

#include <algorithm>
#include <utility>

#include "base/endian.h"

namespace phiq::litert {
namespace {

template <typename T>
std::vector<std::byte> BytesOf(std::span<const T> values) {
  std::vector<std::byte> bytes(values.size_bytes());
  for (std::size_t i = 0; i < values.size(); ++i)
    StoreLe(values[i], std::span(bytes), i * sizeof(T));
  return bytes;
}

}  // namespace

std::uint32_t BufferPool::Add(std::vector<std::byte> bytes) {
  std::string key(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto [found, is_new] =
      by_bytes_.try_emplace(std::move(key), static_cast<std::uint32_t>(buffers_.size()));
  if (is_new) buffers_.emplace_back(std::move(bytes));
  return found->second;
}

std::uint32_t BufferPool::Add(const StoredArray& array) {
  const auto [found, is_new] = by_array_.try_emplace(std::pair(array.line, array.array),
                                                     static_cast<std::uint32_t>(buffers_.size()));
  if (is_new) buffers_.emplace_back(array);
  return found->second;
}

GraphBuilder::Id GraphBuilder::AddTensor(Tensor tensor) {
  graph_.tensors.push_back(std::move(tensor));
  return static_cast<Id>(graph_.tensors.size() - 1);
}

GraphBuilder::Id GraphBuilder::AddNode(Op op, const std::string& name, TensorType type, Shape shape,
                                       std::vector<Id> inputs, OpOptions options) {
  const Id output = AddTensor({name, std::move(shape), type, 0, {}});
  graph_.nodes.push_back({op, std::move(inputs), {output}, std::move(options)});
  return output;
}

GraphBuilder::Id GraphBuilder::Input(const std::string& name, TensorType type, Shape shape) {
  const Id input = AddTensor({name, std::move(shape), type, 0, {}});
  graph_.inputs.push_back({name, input});
  return input;
}

void GraphBuilder::Output(const std::string& name, Id tensor) {
  graph_.outputs.push_back({name, tensor});
}

GraphBuilder::Id GraphBuilder::Ints(std::string_view name, std::span<const std::int32_t> values) {
  const Shape shape = {static_cast<std::int32_t>(values.size())};
  const std::uint32_t buffer = pool_.Add(BytesOf(values));
  const auto [found, is_new] = constants_.try_emplace({buffer, shape}, 0);
  if (is_new) found->second = AddTensor({std::string(name), shape, TensorType::INT32, buffer, {}});
  return found->second;
}

GraphBuilder::Id GraphBuilder::Floats(std::string_view name, std::span<const float> values,
                                      Shape shape) {
  return AddTensor(
      {std::string(name), std::move(shape), TensorType::FLOAT32, pool_.Add(BytesOf(values)), {}});
}

GraphBuilder::Id GraphBuilder::Stored(const std::string& name, TensorType type, Shape shape,
                                      const StoredArray& array) {
  return AddTensor({name, std::move(shape), type, pool_.Add(array), {}});
}

void GraphBuilder::SetQuantization(Id tensor, const Quantization& quantization) {
  graph_.tensors[static_cast<std::size_t>(tensor)].quantization = quantization;
}

GraphBuilder::Id GraphBuilder::Binary(Op op, const std::string& name, Id a, Id b) {
  const Shape& of_a = ShapeOf(a);
  const Shape& of_b = ShapeOf(b);
  Shape shape = of_a.size() >= of_b.size() ? of_a : of_b;
  const Shape& other = of_a.size() >= of_b.size() ? of_b : of_a;
  for (std::size_t i = 0; i < other.size(); ++i) {
    std::int32_t& dim = shape[shape.size() - other.size() + i];
    dim = std::max(dim, other[i]);
  }
  return AddNode(op, name, TypeOf(a), std::move(shape), {a, b});
}

GraphBuilder::Id GraphBuilder::Unary(Op op, const std::string& name, Id x) {
  return AddNode(op, name, TypeOf(x), ShapeOf(x), {x});
}

GraphBuilder::Id GraphBuilder::ToFloat(const std::string& name, Id x) {
  return AddNode(Op::kCast, name, TensorType::FLOAT32, ShapeOf(x), {x},
                 Conversion{TypeOf(x), TensorType::FLOAT32});
}

GraphBuilder::Id GraphBuilder::Reshape(const std::string& name, Id x, const Shape& shape) {
  const Id new_shape = Ints("shape", shape);
  return AddNode(Op::kReshape, name, TypeOf(x), shape, {x, new_shape}, NewShape{shape});
}

GraphBuilder::Id GraphBuilder::Transpose(const std::string& name, Id x, const Shape& order) {
  const Id axes = Ints("order", order);
  Shape shape;
  for (const std::int32_t axis : order) shape.push_back(ShapeOf(x)[static_cast<std::size_t>(axis)]);
  return AddNode(Op::kTranspose, name, TypeOf(x), std::move(shape), {x, axes});
}

GraphBuilder::Id GraphBuilder::Slice(const std::string& name, Id x, std::size_t axis,
                                     std::int32_t begin, std::int32_t n) {
  Shape shape = ShapeOf(x);
  shape[axis] = n;
  Shape first(shape.size(), 0);
  first[axis] = begin;
  const Id start = Ints("begin", first);
  const Id size = Ints("size", shape);
  return AddNode(Op::kSlice, name, TypeOf(x), std::move(shape), {x, start, size});
}

GraphBuilder::Id GraphBuilder::Concatenate(const std::string& name, const std::vector<Id>& parts,
                                           std::size_t axis) {
  Shape shape = ShapeOf(parts.front());
  shape[axis] = 0;
  for (const Id part : parts) shape[axis] += ShapeOf(part)[axis];
  return AddNode(Op::kConcatenation, name, TypeOf(parts.front()), std::move(shape), parts,
                 Axis{static_cast<std::int32_t>(axis)});
}

GraphBuilder::Id GraphBuilder::Mean(const std::string& name, Id x) {
  Shape shape = ShapeOf(x);
  const Id axis = Ints("axis", {static_cast<std::int32_t>(shape.size()) - 1});
  shape.back() = 1;
  return AddNode(Op::kMean, name, TypeOf(x), std::move(shape), {x, axis});
}

GraphBuilder::Id GraphBuilder::Lookup(const std::string& name, Id ids, Id table) {
  return AddNode(Op::kEmbeddingLookup, name, TensorType::FLOAT32,
                 {ShapeOf(ids).front(), ShapeOf(table).back()}, {ids, table});
}

GraphBuilder::Id GraphBuilder::FullyConnected(const std::string& name, Id x, Id weight) {
  Shape shape = ShapeOf(x);
  shape.back() = ShapeOf(weight).front();
  return AddNode(Op::kFullyConnected, name, TensorType::FLOAT32, std::move(shape), {x, weight, -1});
}

GraphBuilder::Id GraphBuilder::MatMul(const std::string& name, Id a, Id b) {
  Shape shape = ShapeOf(a);
  const Shape& of_b = ShapeOf(b);
  shape.back() = of_b[of_b.size() - 2];
  return AddNode(Op::kBatchMatMul, name, TensorType::FLOAT32, std::move(shape), {a, b});
}

GraphBuilder::Id GraphBuilder::Update(const std::string& name, Id x, Id update, Id start) {
  return AddNode(Op::kDynamicUpdateSlice, name, TypeOf(x), ShapeOf(x), {x, update, start});
}

}  // namespace phiq::litert
