// OpenVINO's intermediate representation, version 11: a graph as its XML file says it. What the
// constants hold stands in the .bin file beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phiq::openvino {

enum class ElementType : std::uint8_t {
  kBoolean,
  kString,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kU8,
  kI8,
  kU4,
  kI4,
};

std::string_view TypeName(ElementType type) noexcept;       // in attributes: "f32"
std::string_view PrecisionName(ElementType type) noexcept;  // of ports: "FP32"
std::optional<ElementType> FindType(std::string_view name) noexcept;
// Of an element in the .bin file; 0 for strings, which never stand there.
unsigned BitsOf(ElementType type) noexcept;

using Dims = std::vector<std::int64_t>;  // -1: known when the model runs
constexpr std::int64_t kDynamic = -1;

std::string ShapeText(const Dims& dims);  // "2, 3", "?,8": as the attribute `shape` has it

// An output of a layer.
struct Value {
  std::size_t layer = 0;  // index into Ir::layers
  std::size_t output = 0;

  bool operator==(const Value&) const = default;
};

struct OutputPort {
  std::string precision;  // "FP32"
  Dims dims;
  std::string names;  // of the tensor; mostly empty

  bool operator==(const OutputPort&) const = default;
};

struct Layer {
  std::string name, type, version;
  std::vector<std::pair<std::string, std::string>> attributes;  // of <data>
  std::vector<Value> inputs;
  std::vector<OutputPort> outputs;
  bool is_decompression = false;  // a Convert that widens a stored weight
  std::string output_names;       // Result

  // nullptr: there is none.
  const std::string* FindAttribute(std::string_view attribute_name) const noexcept;
  void SetAttribute(std::string_view attribute_name, std::string value);
};

// A leaf has a value, a section has children.
struct Info {
  std::string name, value;
  std::vector<Info> children;
};

struct Ir {
  std::string name;
  std::vector<Layer> layers;  // each after its inputs
  std::vector<Info> info;     // rt_info of the model
};

// The XML file.
std::vector<std::byte> WriteXml(const Ir& ir);

}  // namespace phiq::openvino
