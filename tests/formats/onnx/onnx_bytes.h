// ONNX files put together field by field, apart from the code under test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phiq::onnx::testing {

// Protobuf's wire format; field numbers as in onnx.proto.
class Wire {
 public:
  Wire& Raw(std::string_view bytes) {
    text_ += bytes;
    return *this;
  }
  Wire& Varint(std::uint64_t value) {
    while (value >= 0x80) {
      text_ += static_cast<char>(value | 0x80);
      value >>= 7;
    }
    text_ += static_cast<char>(value);
    return *this;
  }
  Wire& Tag(std::uint32_t field, std::uint32_t wire_type) { return Varint(field << 3 | wire_type); }
  Wire& Int(std::uint32_t field, std::int64_t value) {
    return Tag(field, 0).Varint(static_cast<std::uint64_t>(value));
  }
  Wire& Bytes(std::uint32_t field, std::string_view bytes) {
    return Tag(field, 2).Varint(bytes.size()).Raw(bytes);
  }
  Wire& Message(std::uint32_t field, const Wire& inner) { return Bytes(field, inner.text_); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

using Names = std::initializer_list<std::string_view>;
using Dims = std::vector<std::int64_t>;
using Keys = std::vector<std::pair<std::string, std::string>>;

// TensorProto without its data.
inline Wire Tensor(std::string_view name, std::int32_t type, const Dims& dims) {
  Wire tensor;
  for (const std::int64_t dim : dims) tensor.Int(1, dim);
  return tensor.Int(2, type).Bytes(8, name);
}
inline Wire Raw(std::string_view name, std::int32_t type, const Dims& dims, std::string_view data) {
  return Tensor(name, type, dims).Bytes(9, data);
}
inline Wire External(std::string_view name, std::int32_t type, const Dims& dims, const Keys& keys) {
  Wire tensor = Tensor(name, type, dims);
  for (const auto& [key, value] : keys) tensor.Message(13, Wire().Bytes(1, key).Bytes(2, value));
  return tensor.Int(14, 1);
}

// AttributeProto: an INT, and INTS.
inline Wire Attribute(std::string_view name, std::int64_t value) {
  return Wire().Bytes(1, name).Int(3, value).Int(20, 2);
}
inline Wire Attribute(std::string_view name, std::initializer_list<std::int64_t> values) {
  Wire attribute;
  attribute.Bytes(1, name);
  for (const std::int64_t value : values) attribute.Int(8, value);
  return attribute.Int(20, 7);
}

inline Wire Node(std::string_view op, std::string_view name, Names inputs, Names outputs,
                 const std::vector<Wire>& attributes = {}) {
  Wire node;
  for (const std::string_view input : inputs) node.Bytes(1, input);
  for (const std::string_view output : outputs) node.Bytes(2, output);
  node.Bytes(3, name).Bytes(4, op);
  for (const Wire& attribute : attributes) node.Message(5, attribute);
  return node;
}

struct Graph {
  std::vector<Wire> nodes, initializers;
  std::vector<std::string> inputs, outputs;

  Wire wire() const {
    Wire graph;
    for (const Wire& node : nodes) graph.Message(1, node);
    for (const Wire& tensor : initializers) graph.Message(5, tensor);
    for (const std::string& input : inputs) graph.Message(11, Wire().Bytes(1, input));
    for (const std::string& output : outputs) graph.Message(12, Wire().Bytes(1, output));
    return graph;
  }
};

inline std::string ModelOf(const Wire& graph) { return Wire().Int(1, 10).Message(7, graph).text(); }
inline std::string ModelOf(const Graph& graph) { return ModelOf(graph.wire()); }

inline std::string Floats(std::initializer_list<float> values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

// A folder that goes away with its test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "phiq-onnx-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path Write(std::string_view name, std::string_view content) const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace phiq::onnx::testing
