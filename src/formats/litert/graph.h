// A LiteRT model in memory: subgraphs that share buffers, and the builder of one subgraph, whose
// operators know the shapes that they give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/safe_variant.h"
#include "formats/litert/tflite_generated.h"

namespace phiq::litert {

using tflite::TensorType;

// Numbers of LiteRT's builtin operators. On disk: never renumber.
enum class Op : std::uint8_t {
  kAdd = 0,
  kConcatenation = 2,
  kEmbeddingLookup = 7,
  kFullyConnected = 9,
  kLogistic = 14,
  kMul = 18,
  kReshape = 22,
  kSoftmax = 25,
  kTranspose = 39,
  kMean = 40,
  kCast = 53,
  kSlice = 65,
  kSin = 66,
  kRsqrt = 76,
  kCos = 108,
  kBatchMatMul = 126,
  kDynamicUpdateSlice = 151,
};

using Shape = std::vector<std::int32_t>;

// The bytes of constants: small ones as they are; array `array` of plan line `line`, which the
// writer fills in behind the flatbuffer.
struct StoredArray {
  std::size_t line = 0, array = 0;
  std::uint64_t size_bytes = 0;
};
using BufferContent = SafeVariant<std::vector<std::byte>, StoredArray>;

// What makes floats of the codes of a tensor.
struct Quantization {
  std::size_t line = 0;
  std::uint64_t n_rows = 0;
  // With blocks: the tensor of their scales, and their size. Without: a scale for each row, array 1
  // of the line, which stands inside of the flatbuffer.
  std::int32_t scales = -1;
  std::int32_t block_size = 0;
};

struct Tensor {
  std::string name;
  Shape shape;
  TensorType type = TensorType::FLOAT32;
  std::uint32_t buffer = 0;  // index into ModelGraph::buffers; 0: computed
  std::optional<Quantization> quantization;
};

// What an operator says besides its inputs.
struct Axis {  // of CONCATENATION
  std::int32_t axis = 0;
};
struct NewShape {
  Shape shape;
};
struct Conversion {
  TensorType from, to;
};
using OpOptions = std::variant<std::monostate, Axis, NewShape, Conversion>;

struct Node {
  Op op = Op::kAdd;
  std::vector<std::int32_t> inputs, outputs;  // tensors; -1: not there
  OpOptions options;
};

struct Named {
  std::string name;
  std::int32_t tensor = 0;
};

struct Subgraph {
  std::string name;  // of its signature, too
  std::vector<Tensor> tensors;
  std::vector<Node> nodes;
  std::vector<Named> inputs, outputs;
};

// The constants of a model: equal ones stand there once.
class BufferPool {
 public:
  BufferPool() : buffers_(1) {}  // the first is that of all that is computed

  std::uint32_t Add(std::vector<std::byte> bytes);
  std::uint32_t Add(const StoredArray& array);
  const std::vector<BufferContent>& buffers() const noexcept { return buffers_; }

 private:
  std::vector<BufferContent> buffers_;
  std::map<std::string, std::uint32_t> by_bytes_;
  std::map<std::pair<std::size_t, std::size_t>, std::uint32_t> by_array_;
};

struct ModelGraph {
  std::vector<Subgraph> subgraphs;
  BufferPool pool;
  std::string description;
  std::vector<std::pair<std::string, std::string>> metadata;
};

// Adds tensors and operators in the order in which they run.
class GraphBuilder {
 public:
  using Id = std::int32_t;

  GraphBuilder(std::string name, BufferPool& pool) : pool_(pool) { graph_.name = std::move(name); }

  Id Input(const std::string& name, TensorType type, Shape shape);
  void Output(const std::string& name, Id tensor);

  Id Ints(std::string_view name, std::span<const std::int32_t> values);
  Id Ints(std::string_view name, std::initializer_list<std::int32_t> values) {
    return Ints(name, std::span(values.begin(), values.size()));
  }
  Id Floats(std::string_view name, std::span<const float> values, Shape shape);
  Id Float(std::string_view name, float value) { return Floats(name, {&value, 1}, {1}); }
  Id Stored(const std::string& name, TensorType type, Shape shape, const StoredArray& array);
  void SetQuantization(Id tensor, const Quantization& quantization);

  // The shapes of a and b, one of which is as large as the result in every dimension.
  Id Add(const std::string& name, Id a, Id b) { return Binary(Op::kAdd, name, a, b); }
  Id Mul(const std::string& name, Id a, Id b) { return Binary(Op::kMul, name, a, b); }
  Id Unary(Op op, const std::string& name, Id x);
  Id Softmax(const std::string& name, Id x) { return Unary(Op::kSoftmax, name, x); }
  Id ToFloat(const std::string& name, Id x);
  Id Reshape(const std::string& name, Id x, const Shape& shape);
  Id Transpose(const std::string& name, Id x, const Shape& order);
  // Elements [begin, begin + n) of an axis.
  Id Slice(const std::string& name, Id x, std::size_t axis, std::int32_t begin, std::int32_t n);
  Id Concatenate(const std::string& name, const std::vector<Id>& parts, std::size_t axis);
  // Over the last axis, which stays with one element.
  Id Mean(const std::string& name, Id x);
  Id Lookup(const std::string& name, Id ids, Id table);
  // x [.., K] times weight [N, K] transposed.
  Id FullyConnected(const std::string& name, Id x, Id weight);
  // a [.., M, K] times b [.., N, K] transposed.
  Id MatMul(const std::string& name, Id a, Id b);
  // x with `update` written over it at `start`.
  Id Update(const std::string& name, Id x, Id update, Id start);

  const Shape& ShapeOf(Id tensor) const {
    return graph_.tensors[static_cast<std::size_t>(tensor)].shape;
  }
  Subgraph Take() { return std::move(graph_); }

 private:
  Id AddTensor(Tensor tensor);
  Id AddNode(Op op, const std::string& name, TensorType type, Shape shape, std::vector<Id> inputs,
             OpOptions options = {});
  Id Binary(Op op, const std::string& name, Id a, Id b);
  TensorType TypeOf(Id tensor) const {
    return graph_.tensors[static_cast<std::size_t>(tensor)].type;
  }

  BufferPool& pool_;
  Subgraph graph_;
  std::map<std::pair<std::uint32_t, Shape>, Id> constants_;  // small ones: buffer and shape
};

// The flatbuffer of a model.
struct PlacedScales {  // array 1 of a line, inside of the flatbuffer
  std::size_t line = 0;
  std::uint64_t offset_bytes = 0;
};
struct SerializedModel {
  std::vector<std::byte> bytes;
  std::vector<PlacedScales> scales;
};

// `offsets`  of each buffer that the writer fills in; of the others nothing. All as good as any to
//            learn the size, which does not depend on them, but for 0.
// Layout     tables that are alike (shapes, names, quantizations, tensors) stand there once.
SerializedModel Serialize(const ModelGraph& model, std::span<const std::uint64_t> offsets);

}  // namespace phiq::litert
