// The names of types and the text of the XML file, and no more: what a graph computes is elsewhere.
#include "formats/openvino/ir.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <pugixml.hpp>
#include <tuple>

#include "phiq/error.h"

namespace phiq::openvino {
namespace {

struct TypeEntry {
  ElementType type;
  std::string_view name, precision;
  unsigned n_bits;
};
constexpr std::array<TypeEntry, 11> kTypes = {{
    {ElementType::kBoolean, "boolean", "BOOL", 8},
    {ElementType::kString, "string", "STRING", 0},
    {ElementType::kF32, "f32", "FP32", 32},
    {ElementType::kF16, "f16", "FP16", 16},
    {ElementType::kBF16, "bf16", "BF16", 16},
    {ElementType::kI64, "i64", "I64", 64},
    {ElementType::kI32, "i32", "I32", 32},
    {ElementType::kU8, "u8", "U8", 8},
    {ElementType::kI8, "i8", "I8", 8},
    {ElementType::kU4, "u4", "U4", 4},
    {ElementType::kI4, "i4", "I4", 4},
}};

const TypeEntry& EntryOf(ElementType type) noexcept {
  return *std::ranges::find(kTypes, type, &TypeEntry::type);
}

void Set(pugi::xml_node node, const char* name, const std::string& value) {
  node.append_attribute(name).set_value(value.c_str());
}

void AddPort(pugi::xml_node ports, std::size_t id, const OutputPort& port, bool is_output) {
  pugi::xml_node node = ports.append_child("port");
  Set(node, "id", fmt::format("{}", id));
  Set(node, "precision", port.precision);
  if (is_output && !port.names.empty()) Set(node, "names", port.names);
  for (const std::int64_t dim : port.dims)
    node.append_child("dim").text().set(fmt::format("{}", dim).c_str());
}

void AddLayer(const Ir& ir, std::size_t id, pugi::xml_node layers) {
  const Layer& layer = ir.layers[id];
  pugi::xml_node node = layers.append_child("layer");
  Set(node, "id", fmt::format("{}", id));
  Set(node, "name", layer.name);
  Set(node, "type", layer.type);
  Set(node, "version", layer.version);
  if (!layer.output_names.empty()) Set(node, "output_names", layer.output_names);
  if (!layer.attributes.empty()) {
    pugi::xml_node data = node.append_child("data");
    for (const auto& [name, value] : layer.attributes) Set(data, name.c_str(), value);
  }
  if (layer.is_decompression) {
    pugi::xml_node mark = node.append_child("rt_info").append_child("attribute");
    Set(mark, "name", "decompression");
    Set(mark, "version", "0");
  }
  if (!layer.inputs.empty()) {
    pugi::xml_node ports = node.append_child("input");
    for (std::size_t i = 0; i < layer.inputs.size(); ++i) {
      const Value& input = layer.inputs[i];
      AddPort(ports, i, ir.layers[input.layer].outputs[input.output], /*is_output=*/false);
    }
  }
  if (!layer.outputs.empty()) {
    pugi::xml_node ports = node.append_child("output");
    for (std::size_t i = 0; i < layer.outputs.size(); ++i)
      AddPort(ports, layer.inputs.size() + i, layer.outputs[i], /*is_output=*/true);
  }
}

void AddEdges(const Ir& ir, pugi::xml_node edges) {
  std::vector<std::tuple<std::size_t, std::size_t, std::size_t, std::size_t>> all;
  for (std::size_t to = 0; to < ir.layers.size(); ++to) {
    for (std::size_t i = 0; i < ir.layers[to].inputs.size(); ++i) {
      const auto& [from, output] = ir.layers[to].inputs[i];
      all.emplace_back(from, ir.layers[from].inputs.size() + output, to, i);
    }
  }
  std::ranges::sort(all);
  for (const auto& [from, from_port, to, to_port] : all) {
    pugi::xml_node edge = edges.append_child("edge");
    Set(edge, "from-layer", fmt::format("{}", from));
    Set(edge, "from-port", fmt::format("{}", from_port));
    Set(edge, "to-layer", fmt::format("{}", to));
    Set(edge, "to-port", fmt::format("{}", to_port));
  }
}

void AddInfo(const std::vector<Info>& info, pugi::xml_node parent) {
  for (const Info& item : info) {
    pugi::xml_node node = parent.append_child(item.name.c_str());
    if (item.children.empty()) {
      Set(node, "value", item.value);
    } else {
      AddInfo(item.children, node);
    }
  }
}

class Collector : public pugi::xml_writer {
 public:
  void write(const void* data, std::size_t size) override {
    const auto* first = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), first, first + size);
  }
  std::vector<std::byte> bytes;
};

}  // namespace

std::string_view TypeName(ElementType type) noexcept { return EntryOf(type).name; }

std::string_view PrecisionName(ElementType type) noexcept { return EntryOf(type).precision; }

std::optional<ElementType> FindType(std::string_view name) noexcept {
  const auto found = std::ranges::find(kTypes, name, &TypeEntry::name);
  if (found == kTypes.end()) return std::nullopt;
  return found->type;
}

unsigned BitsOf(ElementType type) noexcept { return EntryOf(type).n_bits; }

std::string ShapeText(const Dims& dims) {
  // The two spellings are those of OpenVINO's own writer: constants have spaces.
  const bool is_static = std::ranges::none_of(dims, [](std::int64_t dim) { return dim < 0; });
  if (is_static) return fmt::format("{}", fmt::join(dims, ", "));
  std::vector<std::string> words;
  for (const std::int64_t dim : dims) words.push_back(dim < 0 ? "?" : fmt::format("{}", dim));
  return fmt::format("{}", fmt::join(words, ","));
}

const std::string* Layer::FindAttribute(std::string_view attribute_name) const noexcept {
  const auto found = std::ranges::find_if(
      attributes, [&](const auto& attribute) { return attribute.first == attribute_name; });
  return found == attributes.end() ? nullptr : &found->second;
}

void Layer::SetAttribute(std::string_view attribute_name, std::string value) {
  const auto found = std::ranges::find_if(
      attributes, [&](const auto& attribute) { return attribute.first == attribute_name; });
  if (found == attributes.end()) {
    attributes.emplace_back(attribute_name, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

std::vector<std::byte> WriteXml(const Ir& ir) {
  pugi::xml_document document;
  pugi::xml_node declaration = document.append_child(pugi::node_declaration);
  Set(declaration, "version", "1.0");
  pugi::xml_node net = document.append_child("net");
  Set(net, "name", ir.name);
  Set(net, "version", "11");
  pugi::xml_node layers = net.append_child("layers");
  for (std::size_t id = 0; id < ir.layers.size(); ++id) AddLayer(ir, id, layers);
  AddEdges(ir, net.append_child("edges"));
  AddInfo(ir.info, net.append_child("rt_info"));
  Collector collector;
  document.save(collector, "\t", pugi::format_default, pugi::encoding_utf8);
  return std::move(collector.bytes);
}

}  // namespace phiq::openvino
