// Reads the XML file of a graph, trusting nothing in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/openvino/ir.h"

namespace phiq::openvino {

// An input that no edge leads to, in Value::layer.
inline constexpr std::size_t kNoLayer = SIZE_MAX;

struct ReadIr {
  Ir ir;                                    // layers in the order of the file
  std::vector<std::uint64_t> ids;           // of the layers
  std::vector<std::vector<Dims>> in_ports;  // dims that each layer's inputs claim
};

// Throws   kBadData: byte offset or layer, value found and allowed. kUnsupported: a version that is
//          neither 10 nor 11.
// Adds to `problems` what is wrong but leaves the rest readable: an id that two layers have (the
// first keeps it), an edge from or to nowhere.
ReadIr ReadXml(std::string_view text, std::string_view path, std::vector<std::string>& problems);

// What is wrong with a graph although it can be read: inputs without an edge, cycles, dimensions
// that differ between the two ends of an edge.
std::vector<std::string> FindGraphProblems(const ReadIr& graph);

}  // namespace phiq::openvino
