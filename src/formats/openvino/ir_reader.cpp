// Ids, ports and offsets are checked against each other before anything is built of them: OpenVINO
// itself ends by a signal on some.
#include "formats/openvino/ir_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <pugixml.hpp>
#include <unordered_map>
#include <utility>

#include "base/limits.h"
#include "base/parse_number.h"
#include "formats/openvino/xml_check.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

class IrReader {
 public:
  IrReader(std::string_view path, std::vector<std::string>& problems)
      : path_(path), problems_(problems) {}

  ReadIr Read(std::string_view text) && {
    CheckXml(text, path_);
    pugi::xml_document document;
    const pugi::xml_parse_result result =
        document.load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8);
    if (!result) {
      throw Error(ErrorCode::kBadData, result.description())
          .In(path_)
          .At(static_cast<std::uint64_t>(result.offset));
    }
    const pugi::xml_node net = document.child("net");
    if (!net) throw Bad("no element 'net'");
    const std::string_view version = net.attribute("version").value();
    if (version != "11" && version != "10") {
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("version '{}' of the intermediate representation, known are 10 and 11",
                      Escape(version)))
          .In(path_);
    }
    read_.ir.name = net.attribute("name").value();
    for (const pugi::xml_node layer : net.child("layers").children("layer")) ReadLayer(layer);
    if (read_.ir.layers.empty()) throw Bad("no layers");
    for (const pugi::xml_node edge : net.child("edges").children("edge")) ReadEdge(edge);
    read_.ir.info = ReadInfo(net.child("rt_info"));
    return std::move(read_);
  }

 private:
  Error Bad(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_);
  }

  std::uint64_t NumberOf(const pugi::xml_node node, const char* attribute,
                         const std::string& where) const {
    const std::string_view value = node.attribute(attribute).value();
    if (const auto number = ParseNumber<std::uint64_t>(value)) return *number;
    throw Bad(fmt::format("{}: {} is '{}', needs a whole number", where, attribute, Escape(value)));
  }

  void ReadLayer(const pugi::xml_node node) {
    if (read_.ids.size() == limits::kIrLayers)
      throw Bad(fmt::format("more than {} layers", limits::kIrLayers));
    const std::uint64_t id = NumberOf(node, "id", fmt::format("layer {}", read_.ids.size()));
    Layer layer;
    layer.name = node.attribute("name").value();
    layer.type = node.attribute("type").value();
    layer.version = node.attribute("version").value();
    layer.output_names = node.attribute("output_names").value();
    for (const pugi::xml_attribute attribute : node.child("data").attributes())
      layer.attributes.emplace_back(attribute.name(), attribute.value());
    for (const pugi::xml_node mark : node.child("rt_info").children("attribute"))
      if (std::strcmp(mark.attribute("name").value(), "decompression") == 0)
        layer.is_decompression = true;
    const std::string where = fmt::format("layer {} '{}'", id, Escape(layer.name));
    std::map<std::uint64_t, std::size_t> inputs, outputs;
    std::vector<Dims> in_ports;
    for (const pugi::xml_node port : node.child("input").children("port")) {
      inputs.emplace(NumberOf(port, "id", where), in_ports.size());
      in_ports.push_back(ReadDims(port, where));
    }
    layer.inputs.assign(in_ports.size(), Value{kNoLayer, 0});
    for (const pugi::xml_node port : node.child("output").children("port")) {
      outputs.emplace(NumberOf(port, "id", where), layer.outputs.size());
      layer.outputs.push_back({port.attribute("precision").value(), ReadDims(port, where),
                               port.attribute("names").value()});
    }
    const std::size_t index = read_.ir.layers.size();
    if (!index_.try_emplace(id, index).second)
      problems_.push_back(fmt::format("two layers have id {}", id));
    read_.ids.push_back(id);
    read_.in_ports.push_back(std::move(in_ports));
    inputs_.push_back(std::move(inputs));
    outputs_.push_back(std::move(outputs));
    read_.ir.layers.push_back(std::move(layer));
  }

  Dims ReadDims(const pugi::xml_node port, const std::string& where) const {
    Dims dims;
    for (const pugi::xml_node dim : port.children("dim")) {
      const std::string_view text = dim.text().get();
      const auto number = ParseNumber<std::int64_t>(text);
      if (!number || *number < -1) {
        throw Bad(fmt::format("{}: a dimension is '{}', needs a whole number from -1 on", where,
                              Escape(text)));
      }
      dims.push_back(*number);
    }
    return dims;
  }

  void ReadEdge(const pugi::xml_node edge) {
    constexpr const char* kEdge = "an edge";
    const std::uint64_t from = NumberOf(edge, "from-layer", kEdge);
    const std::uint64_t from_port = NumberOf(edge, "from-port", kEdge);
    const std::uint64_t to = NumberOf(edge, "to-layer", kEdge);
    const std::uint64_t to_port = NumberOf(edge, "to-port", kEdge);
    const std::string where = fmt::format("edge {}:{} -> {}:{}", from, from_port, to, to_port);
    const auto from_layer = index_.find(from);
    const auto to_layer = index_.find(to);
    if (from_layer == index_.end() || to_layer == index_.end()) {
      problems_.push_back(
          fmt::format("{}: there is no layer {}", where, from_layer == index_.end() ? from : to));
      return;
    }
    const auto& outputs = outputs_[from_layer->second];
    const auto& inputs = inputs_[to_layer->second];
    const auto output = outputs.find(from_port);
    const auto input = inputs.find(to_port);
    if (output == outputs.end() || input == inputs.end()) {
      problems_.push_back(fmt::format("{}: layer {} has no such {}", where,
                                      output == outputs.end() ? from : to,
                                      output == outputs.end() ? "output" : "input"));
      return;
    }
    Value& value = read_.ir.layers[to_layer->second].inputs[input->second];
    if (value.layer != kNoLayer)
      problems_.push_back(fmt::format("{}: another edge leads there, too", where));
    value = {from_layer->second, output->second};
  }

  // The depth is bounded by CheckXml.
  std::vector<Info> ReadInfo(const pugi::xml_node parent) const {
    std::vector<Info> info;
    for (const pugi::xml_node node : parent.children()) {
      if (node.type() != pugi::node_element) continue;
      // <info name="key" value="..."/>, where the key is no name of an element.
      const bool is_named = std::strcmp(node.name(), "info") == 0;
      info.push_back({is_named ? node.attribute("name").value() : node.name(),
                      node.attribute("value").value(), ReadInfo(node)});
    }
    return info;
  }

  const std::string_view path_;
  std::vector<std::string>& problems_;
  ReadIr read_;
  std::unordered_map<std::uint64_t, std::size_t> index_;                // id -> layer
  std::vector<std::map<std::uint64_t, std::size_t>> inputs_, outputs_;  // port id -> its place
};

// Those of a port, which may claim any number of them.
std::string ShownDims(const Dims& dims) {
  if (dims.size() <= limits::kRank) return ShapeText(dims);
  const Dims first(dims.begin(), dims.begin() + limits::kRank);
  return fmt::format("{}, ... {} in all", ShapeText(first), dims.size());
}

// Names a layer on a cycle; empty: there is none. Layers without inputs left to wait for are taken
// away until none is left; what then remains waits for itself.
std::string FindCycle(const ReadIr& graph) {
  const std::vector<Layer>& layers = graph.ir.layers;
  std::vector<std::size_t> n_waiting(layers.size());
  std::vector<std::vector<std::size_t>> users(layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const Value& input : layers[i].inputs) {
      if (input.layer == kNoLayer) continue;
      ++n_waiting[i];
      users[input.layer].push_back(i);
    }
  }
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (n_waiting[i] == 0) ready.push_back(i);
  for (std::size_t next = 0; next < ready.size(); ++next)
    for (const std::size_t user : users[ready[next]])
      if (--n_waiting[user] == 0) ready.push_back(user);
  if (ready.size() == layers.size()) return "";
  const auto first = std::ranges::find_if(n_waiting, [](std::size_t n) { return n > 0; });
  const auto i = static_cast<std::size_t>(first - n_waiting.begin());
  return fmt::format("layer {} '{}' depends on itself", graph.ids[i], Escape(layers[i].name));
}

}  // namespace

ReadIr ReadXml(std::string_view text, std::string_view path, std::vector<std::string>& problems) {
  return IrReader(path, problems).Read(text);
}

std::vector<std::string> FindGraphProblems(const ReadIr& graph) {
  std::vector<std::string> problems;
  // Nobody sees the text of more, and it could fill the memory.
  const auto is_listed = [&] {
    if (problems.size() < limits::kIrProblems) return true;
    problems.emplace_back();
    return false;
  };
  for (std::size_t i = 0; i < graph.ir.layers.size(); ++i) {
    const Layer& layer = graph.ir.layers[i];
    for (std::size_t k = 0; k < layer.inputs.size(); ++k) {
      const Value& input = layer.inputs[k];
      const auto where = [&] {
        return fmt::format("layer {} '{}': input {}", graph.ids[i], Escape(layer.name), k);
      };
      if (input.layer == kNoLayer) {
        if (is_listed()) problems.push_back(where() + " comes from nowhere");
        continue;
      }
      const Dims& given = graph.ir.layers[input.layer].outputs[input.output].dims;
      if (given != graph.in_ports[i][k] && is_listed()) {
        problems.push_back(fmt::format("{} is [{}], but layer {} gives [{}]", where(),
                                       ShownDims(graph.in_ports[i][k]), graph.ids[input.layer],
                                       ShownDims(given)));
      }
    }
  }
  if (std::string cycle = FindCycle(graph); !cycle.empty()) problems.push_back(std::move(cycle));
  return problems;
}

}  // namespace phiq::openvino
