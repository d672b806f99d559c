// Importance matrices: how large the inputs of each weight's product are, column by column. They
// are llama.cpp's files; what they say serves every format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "phiq/error.h"
#include "phiq/model.h"

namespace phiq {

// What such a file says of one model.
struct Importance {
  // Mean of the squares of what each column is multiplied with: [in_features], finite, not negative
  // and below 1e30, as Method::quantize wants it. Weights that share an input each have their own
  // copy; of a weight of several experts each expert or none.
  std::map<WeightId, std::vector<float>> squares;

  std::vector<std::string> datasets;  // paths of the texts, as the file has them; unescaped
  std::uint64_t n_entries = 0;        // of the file, those of other models' weights too
  std::uint64_t n_chunks = 0;         // of the text

  // nullptr: the file has nothing of this weight.
  const std::vector<float>* Find(WeightId weight) const;
};

// Reads either form of such a file.
//
// Warns    weights of the layers that the file has not; entries that the model has not; entries of
//          zeros alone, which say nothing and are left out.
// Throws   kInput. kNumeric: a value that is not finite. kBadData: neither form, a length that
//          passes the end of the file, a value that is no mean square, another number of columns
//          than the model's weight, not one of the model's weights. Memory never goes by what the
//          file claims.
Importance ReadImportance(const std::string& path, const Model& model, const WarningFn& warn);

// The sums of one weight's inputs, to be written.
struct InputSquares {
  WeightId weight;          // of several experts: those of one
  std::vector<float> sums;  // [in_features]: of the squares, over all tokens
  std::uint64_t n_tokens = 0;
};

enum class ImportanceForm : std::uint8_t {
  kTensors,  // GGUF, the default of llama-imatrix
  kDat,      // what it wrote before, and writes as `.dat`
};

// The bytes of such a file; `inputs` may come in any order, those of a weight's experts in theirs.
//
// `chunk_size`   tokens of a window; n_tokens are counted in whole windows.
// Bytes    those of llama-imatrix for the same sums.
// Throws   kNumeric: a sum that is not finite, naming the weight.
std::vector<std::byte> EncodeImportance(ImportanceForm form, std::span<const InputSquares> inputs,
                                        std::span<const std::string> datasets,
                                        std::uint32_t chunk_size);

// What a format does for the two functions above.
struct ImportanceFiles {
  Importance (*read)(const std::string& path, const Model& model, const WarningFn& warn) = nullptr;
  std::vector<std::byte> (*encode)(ImportanceForm form, std::span<const InputSquares> inputs,
                                   std::span<const std::string> datasets,
                                   std::uint32_t chunk_size) = nullptr;
};

}  // namespace phiq
