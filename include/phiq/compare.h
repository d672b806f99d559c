// Two sets of weights of one model, tensor by tensor: what an encoding did to them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "phiq/hooks.h"
#include "phiq/model.h"

namespace phiq {

struct CompareOptions {
  // Checkpoints or outputs of phiq, in any mixture; errors are those of b against a.
  std::string a, b;
  std::vector<std::string> ignore_extra;  // globs of a checkpoint's tensors that need no role
  unsigned threads = 0;
  std::vector<std::string> adapters = {};       // merged into each checkpoint (not into outputs)
  std::optional<std::uint32_t> pad_vocab = {};  // of each checkpoint, as of ConvertOptions
};

struct ComparedTensor {
  // The checkpoint's, and the part: "model.layers.0.mlp.gate_up_proj.weight[gate]".
  std::string name;
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;
  std::vector<std::uint64_t> shape;  // rows first
  std::string type_a, type_b;
  double bits_per_weight_a = 0, bits_per_weight_b = 0;
  double max_error = 0;      // max |a - b|
  double rmse = 0;           // sqrt(mean (a - b)^2)
  double relative_rmse = 0;  // sqrt(sum (a - b)^2 / sum a^2); infinite when a is all zero and b not
  double snr_db = 0;         // -20 log10(relative_rmse); infinite when equal
  double cosine = 1;         // sum a b / sqrt(sum a^2 sum b^2); 1 when both are zero
  double share = 0;          // of the summed squared error of all tensors, 0 ... 1
};

struct ComparedSide {
  std::string path, kind;  // "checkpoint", "gguf", "onnx", ...
  double bits_per_weight = 0;
  std::uint64_t data_bytes = 0;  // of the weights
};

struct Comparison {
  ComparedSide a, b;
  std::vector<ComparedTensor> tensors;  // largest share first; equal ones in the model's order
  std::uint64_t n_weights = 0;
  double relative_rmse = 0;  // of all weights together
  double max_error = 0;
};

// Decodes both and compares.
//
// Throws   kBadData: not the same model (shapes differ); what opening throws; kNumeric: NaN or Inf.
Comparison Compare(const CompareOptions& options, const Hooks& hooks);

}  // namespace phiq
