// Looking into a checkpoint or an output, and proving an output against its source.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "phiq/calibration.h"
#include "phiq/error.h"
#include "phiq/hooks.h"

namespace phiq {

struct InspectedTensor {
  std::string name;
  std::string type;
  std::vector<std::uint64_t> shape;  // rows first, for every format
  std::uint64_t size_bytes = 0;
  std::string file;
  bool is_weight = true;  // false: a table that the format adds (rotary embedding); not counted
};

struct Inspection {
  std::string kind;  // "checkpoint", "gguf", "onnx", "openvino" or "mlx"
  std::string path;
  std::vector<std::pair<std::string, std::string>>
      metadata;  // rendered and escaped; long values cut
  std::vector<InspectedTensor> tensors;
  std::uint64_t n_weights = 0;
  std::uint64_t data_bytes = 0;       // of the weights
  std::vector<std::string> notes;     // worth knowing, e.g. a chat template that is not a known one
  std::vector<std::string> problems;  // what --check found
  double bits_per_weight() const noexcept;
};

struct InspectOptions {
  bool check = false;  // also read every weight: non-finite values and scales are problems, and a
                       // broken graph
  unsigned threads = 0;
};

// Throws   as OpenCheckpoint and the formats' readers do. Problems do not throw.
Inspection Inspect(const std::string& path, const InspectOptions& options, const Hooks& hooks);

struct VerifiedTensor {
  std::string name;
  std::string type;
  double max_error = 0;      // max |w - decoded|
  double relative_rmse = 0;  // sqrt(sum (w - decoded)^2 / sum w^2)
  double bound = 0;          // allowed relative_rmse of this type
  bool ok = true;
};

struct Verification {
  std::vector<VerifiedTensor> tensors;
  std::vector<std::string> problems;  // every difference found; empty: the output is right
  // What is no fault of the output: where the runtime's tokenizer does otherwise than the model's,
  // and what could not be compared.
  std::vector<std::string> notes;
  // Tensors, of those that the output's record lists:
  std::uint64_t n_checked = 0;  // that were held against their recorded checksums
  std::uint64_t n_encoded = 0;  // that were encoded again from the source, and compared by bytes
};

struct VerifyOptions {
  std::string output;
  std::string model;  // "": only recorded checksums, and what the output says of itself
  std::vector<std::string> ignore_extra;
  unsigned threads = 0;
  std::vector<std::string> adapters = {};       // that were merged into `model` on the way
  std::optional<std::uint32_t> pad_vocab = {};  // as of ConvertOptions
  // What the output's codes were chosen by, to be chosen again. Method, shrinkage, correction and
  // blocks are those that the output names.
  std::optional<CalibrationOptions> calibration = {};
  std::uint64_t memory_limit_bytes = 1ULL << 30;  // for that
  std::string tokenizer = {};                     // as of ConvertOptions
};

// Holds an output against the checksums that phiq recorded in it, and against its source: decodes
// every tensor and compares it, its name, shape and the metadata; encodes it again where the record
// says how (codes that a calibration chose: with `calibration`), and compares bytes. Differences do
// not throw.
//
// Throws   kUsage: neither a source nor recorded checksums; a calibration that is not the one that
//          the output names. As Inspect and OpenCheckpoint do, and as Convert of a calibration.
Verification Verify(const VerifyOptions& options, const Hooks& hooks);

}  // namespace phiq
