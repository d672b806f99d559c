// Which initializers are weights, told by the operators that use them.
#pragma once

#include <onnx/onnx_pb.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/onnx/initializers.h"
#include "phiq/encoding.h"
#include "phiq/error.h"

namespace phiq::onnx {

// A weight as the graph uses it: one initializer, or codes, scales and zero points together.
struct Weight {
  // "model.layers.0.attn.qkv_proj.MatMul.weight": the unquantized tensor's name, from the node that
  // uses it.
  std::string name;
  // "model.embed_tokens.weight" when the head's weight is the embedding too.
  std::string shared_name;
  Encoding encoding;
  // As in the checkpoint: rows are out features, or the vocabulary.
  std::uint64_t n_rows = 0, row_elements = 0;
  bool transposed = false;       // stored as [row_elements, n_rows]
  std::uint64_t n_matrices = 1;  // of experts, which share the rows
  // Of two weights whose rows stand in turn: 0 is the first's, 1 the second's.
  std::optional<std::size_t> turn = std::nullopt;
  // Initializers: codes or floats, scales, zero points.
  std::array<std::optional<std::size_t>, kMaxArrays> arrays;
};

// A table of the rotary embedding: an initializer, or a constant of the graph.
struct Table {
  std::string name;
  std::int32_t data_type = 0;
  std::vector<std::uint64_t> dims;
  std::uint64_t size_bytes = 0;
  std::optional<std::size_t> initializer;
  const ::onnx::TensorProto* constant = nullptr;  // with raw_data
};

// In the order of the nodes; a weight that two nodes share is there once.
//
// Throws   kBadData: an operator's attributes and the sizes of its arrays do not agree.
// kUnsupported:
//          bits, zero points or layouts that phiq does not do. Operators whose inputs are computed
//          or undefined are left out.
// Warns    initializers of some size that no weight has.
std::vector<Weight> FindWeights(const ::onnx::GraphProto& graph, const Initializers& initializers,
                                const WarningFn& warn);

// Initializers and constants of all graphs whose names begin as rotary tables' do.
std::vector<Table> FindTables(const ::onnx::GraphProto& graph, const Initializers& initializers);

}  // namespace phiq::onnx
