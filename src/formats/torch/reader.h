// Reads folders of compressed-tensors, GPTQ and AWQ, phiq's own and others, trusting nothing in
// them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/order.h"
#include "formats/torch/config.h"
#include "model/weights.h"
#include "phiq/checkpoint.h"
#include "phiq/encoding.h"
#include "phiq/model.h"

namespace phiq::torch {

// One of the model's weights: floats, or codes, scales and zero points.
struct Weight {
  std::string name;  // "model.layers.3.mlp.down_proj.weight"
  WeightId id;
  Encoding encoding;
  std::uint64_t n_rows = 0, row_elements = 0;                 // norms: 1 x hidden_size
  std::array<std::optional<std::size_t>, kMaxArrays> arrays;  // index into Checkpoint::tensors()
  std::array<Order, kMaxArrays> orders;
};

class Folder {
 public:
  // `path`   the folder, or one of its *.safetensors or *.index.json.
  //
  // Throws   kInput: a file is missing. kBadData, naming tensor, key or file: what loaders refuse,
  //          tensors that are not as config.json says. kUnsupported: another architecture, formats
  //          that phiq does not read.
  static Folder Open(const std::string& path, const WarningFn& warn);

  const CheckpointFolder& files() const noexcept { return files_; }
  const ModelConfig& config() const noexcept { return config_; }
  const Checkpoint& tensors() const noexcept { return tensors_; }
  const Quantization& quantization() const noexcept { return quantization_; }
  std::span<const Weight> weights() const noexcept { return weights_; }  // in the model's order

  std::uint64_t SizeBytes(const Weight& weight) const noexcept;  // of all arrays

  // What loaders do not notice. Of the constants beside codes, which are not used: other ones would
  // mean other weights.
  std::vector<std::string> FindWrongConstants() const;
  // Of config.json: it misleads loaders, and the weights are what phiq reads.
  const std::vector<std::string>& loader_problems() const noexcept { return problems_; }

  // Decodes rows [first_row, first_row + n_rows) of a weight.
  //
  // Shapes    out: [n_rows * row_elements].
  // Threads   safe, with a codec for each.
  void ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                RowCodec& codec, std::span<float> out) const;

 private:
  Folder(CheckpointFolder files, ModelConfig config, Checkpoint tensors, Quantization quantization);
  void FindWeights();

  CheckpointFolder files_;
  ModelConfig config_;
  Checkpoint tensors_;
  Quantization quantization_;
  std::vector<Weight> weights_;
  std::vector<std::string> problems_;
  // One for each array: a reader of rows needs all of them.
  std::unique_ptr<std::array<ColumnBands, kMaxArrays>> bands_ =
      std::make_unique<std::array<ColumnBands, kMaxArrays>>();
};

// True for a checkpoint whose config.json says that it is quantized so, with such tensors.
bool LooksLikeTorch(const std::filesystem::path& path);

}  // namespace phiq::torch
