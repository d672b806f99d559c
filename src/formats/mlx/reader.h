// Reads MLX model folders, phiq's own and mlx-lm's, trusting nothing in them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/mlx/config.h"
#include "model/weights.h"
#include "phiq/checkpoint.h"
#include "phiq/encoding.h"
#include "phiq/model.h"

namespace phiq::mlx {

// One of the model's weights: floats, or codes, scales and biases.
struct Weight {
  std::string name;  // "model.layers.3.mlp.down_proj.weight"
  WeightId id;
  Encoding encoding;
  std::uint64_t n_rows = 0, row_elements = 0;                 // vectors: 1 x n
  std::vector<std::uint64_t> dims;                            // the same, as a tensor has them
  std::array<std::optional<std::size_t>, kMaxArrays> arrays;  // index into Checkpoint::tensors()
};

class Folder {
 public:
  // `path`   the folder, or one of its *.safetensors or *.index.json.
  //
  // Throws   kInput: a file is missing. kBadData, naming tensor, key or file: tensors that mlx-lm
  //          would not load or that config.json says otherwise of, files of which only mlx-lm would
  //          read tensors. kUnsupported: another architecture.
  static Folder Open(const std::string& path, const WarningFn& warn);

  const CheckpointFolder& files() const noexcept { return files_; }
  const ModelConfig& config() const noexcept { return config_; }
  const Checkpoint& tensors() const noexcept { return tensors_; }
  const std::optional<Quantization>& quantization() const noexcept { return quantization_; }
  std::span<const Weight> weights() const noexcept { return weights_; }  // in the model's order

  std::uint64_t SizeBytes(const Weight& weight) const noexcept;  // of all arrays

  // Decodes rows [first_row, first_row + n_rows) of a weight.
  //
  // Shapes    out: [n_rows * row_elements].
  // Threads   safe, with a codec for each.
  void ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                RowCodec& codec, std::span<float> out) const;

 private:
  Folder(CheckpointFolder files, ModelConfig config, Checkpoint tensors,
         std::optional<Quantization> quantization);
  void FindWeights();
  void CheckEntries() const;
  Encoding EncodingOf(const Weight& weight) const;

  CheckpointFolder files_;
  ModelConfig config_;
  Checkpoint tensors_;
  std::optional<Quantization> quantization_;
  std::vector<Weight> weights_;
};

// True for a checkpoint whose config.json says that it is quantized for MLX, or whose weights say
// that they were written for it.
bool LooksLikeMlx(const std::filesystem::path& path);

// Whether phiq wrote it.
bool IsOurs(const Folder& folder) noexcept;

}  // namespace phiq::mlx
