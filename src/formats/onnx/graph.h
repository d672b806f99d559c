// Writing an ONNX graph node by node: names as onnxruntime-genai's model builder gives them, every
// constant once, every initializer outside of the file.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/safe_variant.h"
#include "formats/onnx/data_type.h"
#include "formats/order.h"

namespace phiq::onnx {

inline constexpr std::string_view kContribDomain = "com.microsoft";

using Attribute =
    std::pair<std::string,
              SafeVariant<std::int64_t, float, std::vector<std::int64_t>, std::string>>;

// A graph input's or output's dimension: a number or a name.
using Dim = SafeVariant<std::int64_t, std::string>;

// An initializer whose bytes are one array of one plan line.
struct StoredTensor {
  ::onnx::TensorProto* proto = nullptr;
  std::size_t line = 0;
  std::size_t array = 0;
  Order order;
  // The rows of this line stand between those of the other: first, first of this, second, ...
  std::optional<std::size_t> between = std::nullopt;
};

class GraphBuilder {
 public:
  explicit GraphBuilder(::onnx::GraphProto& graph) : graph_(graph) {}

  void AddInput(std::string_view name, DataType type, const std::vector<Dim>& dims);
  void AddOutput(std::string_view name, DataType type, const std::vector<Dim>& dims);

  // A node of the default domain with one output, called NAME/output_0.
  // Returns the output's name.
  std::string Add(std::string_view op, const std::string& name,
                  const std::vector<std::string>& inputs,
                  const std::vector<Attribute>& attributes = {});
  // Any node; an empty name is an input or output that is not there.
  ::onnx::NodeProto& AddNode(std::string_view op, std::string_view domain, const std::string& name,
                             const std::vector<std::string>& inputs,
                             const std::vector<std::string>& outputs,
                             const std::vector<Attribute>& attributes = {});

  // INT64 constants by value; each node is made when first asked for. Return the value's name.
  std::string Constant(std::int64_t value);
  std::string Constant(const std::vector<std::int64_t>& values);
  // A float32, likewise.
  std::string FloatConstant(float value);

  // `dims` as ONNX counts them, of the array as it is stored. Returns `name`.
  std::string AddStored(const std::string& name, DataType type,
                        const std::vector<std::uint64_t>& dims, std::size_t line,
                        std::size_t array = 0, Order order = {});
  // The rows of two lines in turn.
  std::string AddInterleaved(const std::string& name, DataType type,
                             const std::vector<std::uint64_t>& dims, std::size_t line,
                             std::size_t between, std::size_t array);

  const std::vector<StoredTensor>& stored() const noexcept { return stored_; }

 private:
  std::string AddConstant(const std::string& label, const std::vector<std::int64_t>& values,
                          bool is_scalar);
  // The tensor of a new node; nullptr: there is one of that name.
  ::onnx::TensorProto* AddConstantNode(std::string_view type, const std::string& label);
  static std::string ConstantName(std::string_view type, const std::string& label);

  ::onnx::GraphProto& graph_;
  std::set<std::string> constants_;  // names of the values
  std::vector<StoredTensor> stored_;
};

}  // namespace phiq::onnx
