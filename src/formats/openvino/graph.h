// Building a graph: operators with the shapes that they give, and constants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/openvino/ir.h"

namespace phiq::openvino {

// A constant whose bytes are an array of a plan line; its place is decided by the layout.
struct StoredConstant {
  std::size_t layer = 0;  // index into Ir::layers
  std::size_t line = 0, array = 0;
  std::uint64_t size_bytes = 0;
};

using Attributes = std::vector<std::pair<std::string, std::string>>;

// Every operator has the opset in which it came into being; docs/formats/openvino.md lists them.
class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name) { ir_.name = std::move(name); }

  // Any layer. Returns its number; outputs are Value{number, 0 ...}.
  std::size_t AddLayer(std::string_view type, std::string_view version, const std::string& name,
                       std::vector<Value> inputs, std::vector<OutputPort> outputs,
                       Attributes attributes = {});

  Value Parameter(const std::string& name, ElementType type, const Dims& dims);
  // Gives the tensor its name, which is how a runtime asks for it.
  void Result(const std::string& name, Value value);

  // Small constants: their bytes stand in data(), equal ones once. No dims: a scalar.
  Value Constant(std::int64_t value, std::string name = "");
  Value Constant(const std::vector<std::int64_t>& values);
  Value Constant(float value, const Dims& dims = {}, std::string name = "");
  Value Constant(ElementType type, const Dims& dims, std::span<const std::byte> bytes,
                 std::string name = "");
  // A constant that the streaming writer fills.
  Value Stored(const std::string& name, ElementType type, const Dims& dims, std::size_t line,
               std::size_t array);

  // The variable's value, and what becomes its value.
  Value ReadValue(const std::string& variable, Value initial, ElementType type, const Dims& dims);
  void Assign(const std::string& variable, Value value);

  Value Convert(const std::string& name, Value x, ElementType type, bool is_decompression = false);
  Value Unary(std::string_view type, std::string_view version, const std::string& name, Value x);
  // With numpy's broadcasting. Comparisons and logic give booleans.
  Value Binary(std::string_view type, const std::string& name, Value a, Value b);
  Value Select(const std::string& name, Value condition, Value then, Value otherwise);
  // a [.., M, K] times b [.., N, K] transposed, or b [.., K, N].
  Value MatMul(const std::string& name, Value a, Value b, bool transpose_b);
  Value Gather(const std::string& name, Value data, Value indices, std::int64_t axis);
  // 0 in `shape`: as in x (with `special_zero`); -1: the rest.
  Value Reshape(const std::string& name, Value x, const std::vector<std::int64_t>& shape,
                bool special_zero);
  Value Transpose(const std::string& name, Value x, const std::vector<std::int64_t>& order);
  Value Unsqueeze(const std::string& name, Value x, std::int64_t axis);
  Value Concat(const std::string& name, const std::vector<Value>& parts, std::int64_t axis);
  std::vector<Value> Split(const std::string& name, Value x, std::int64_t axis,
                           const std::vector<std::int64_t>& lengths);
  // x without what is before `first` on an axis.
  Value SliceFrom(const std::string& name, Value x, std::int64_t axis, std::int64_t first);
  Value Reduce(std::string_view type, const std::string& name, Value x,
               const std::vector<std::int64_t>& axes, bool keep_dims);
  Value ShapeOf(const std::string& name, Value x);
  // `shape` is a vector of numbers; `dims` is what is known of them.
  Value Broadcast(const std::string& name, Value x, Value shape, std::string_view mode,
                  const Dims& dims);
  // x, as often as `repeats` says along each axis.
  Value Tile(const std::string& name, Value x, const std::vector<std::int64_t>& repeats);
  // (x - mean) / sqrt(variance + epsilon) over the last axis.
  Value Mvn(const std::string& name, Value x, float epsilon);
  Value Softmax(const std::string& name, Value x, std::int64_t axis);
  // The largest element on the last axis, and where it stands (the first of equal ones): both with
  // a last axis of 1.
  std::vector<Value> Top(const std::string& name, Value x);
  Value GatherElements(const std::string& name, Value data, Value indices, std::int64_t axis);
  // `data` with updates where the indices say.
  Value ScatterElements(const std::string& name, Value data, Value indices, Value updates,
                        std::int64_t axis);
  // x in the shape of another value.
  Value ReshapeLike(const std::string& name, Value x, Value other);

  Value Range(const std::string& name, Value start, Value stop, Value step, ElementType type);

  const Layer& LayerOf(Value value) const { return ir_.layers[value.layer]; }
  const Dims& DimsOf(Value value) const { return PortOf(value).dims; }
  const std::string& PrecisionOf(Value value) const { return PortOf(value).precision; }

  Ir& ir() noexcept { return ir_; }
  std::vector<std::byte>& data() noexcept { return data_; }
  std::vector<StoredConstant>& stored() noexcept { return stored_; }

 private:
  const OutputPort& PortOf(Value value) const {
    return ir_.layers[value.layer].outputs[value.output];
  }
  Value Add(std::string_view type, std::string_view version, const std::string& name,
            std::vector<Value> inputs, OutputPort output, Attributes attributes = {}) {
    return {AddLayer(type, version, name, std::move(inputs), {std::move(output)},
                     std::move(attributes)),
            0};
  }

  Ir ir_;
  std::vector<std::byte> data_;
  std::map<std::string, std::uint64_t> offsets_;  // of the bytes of small constants
  std::vector<StoredConstant> stored_;
  std::size_t n_constants_ = 0;
};

}  // namespace phiq::openvino
