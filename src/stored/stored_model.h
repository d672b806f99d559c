// A model as some file stores it: what every command reads, a checkpoint too.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/weights.h"
#include "phiq/checkpoint.h"
#include "phiq/encoding.h"
#include "phiq/error.h"
#include "phiq/model.h"
#include "phiq/tokenizer.h"
#include "stored/expression.h"

namespace phiq {

// What a stored tensor is to the model.
enum class Holds : std::uint8_t {
  kWeight,   // rows of one of its weights
  kTable,    // values that come from its configuration
  kNothing,  // nothing that phiq knows
};

// One stored tensor.
struct StoredPiece {
  std::string name;  // the file's own, for messages
  Holds holds = Holds::kWeight;
  // Of a weight:
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;
  // In the model's weight as a checkpoint has it (all of qkv, gate before up; expert behind
  // expert); 0 for vectors.
  std::uint64_t first_row = 0;
  std::optional<ConfigTable> table;            // of a table that the model has
  std::optional<Error> refusal;                // of nothing: why it is none of the weights
  std::uint64_t n_rows = 0, row_elements = 0;  // vectors: 1 x n
  std::vector<std::uint64_t> shape;            // rows first, for people
  std::string type;                            // likewise: "BF16", "Q4_K", "int4 g32"
  Encoding encoding;
  std::uint64_t size_bytes = 0;  // of all its arrays, as stored
  std::string file;              // where it stands (its first array), for messages
};

// A piece that is a whole weight of the model. `Weight` has name, id, n_rows, row_elements,
// encoding.
template <typename Weight>
StoredPiece WholePiece(const Weight& weight, std::uint64_t size_bytes, std::string file) {
  StoredPiece piece;
  piece.name = weight.name;
  piece.role = weight.id.role;
  piece.layer = weight.id.layer;
  piece.n_rows = weight.n_rows;
  piece.row_elements = weight.row_elements;
  if (!IsVector(piece.role)) piece.shape.push_back(piece.n_rows);
  piece.shape.push_back(piece.row_elements);
  piece.type = EncodingName(weight.encoding);
  piece.encoding = weight.encoding;
  piece.size_bytes = size_bytes;
  piece.file = std::move(file);
  return piece;
}

// What `inspect` says of a model besides its tensors.
struct About {
  std::vector<std::pair<std::string, std::string>> metadata;  // escaped
  std::vector<std::string> notes;  // worth knowing: a chat template that is not a known one
};
// Lines that any model has: its sizes; its tokenizer and chat template.
void AddConfig(const ModelConfig& config, About& about);
void AddTokenizer(const Tokenizer& tokenizer, About& about);
void NoteChatTemplate(const std::string& chat_template, About& about);

// None are there.
const SideFiles& NoSideFiles() noexcept;

// A rewrite of a model (weights under other names, split or put together, an adapter merged) is a
// StoredModel over a StoredModel: it answers for what it changes and asks the other for the rest.
class StoredModel {
 public:
  // `path`: what messages call it.
  explicit StoredModel(std::string path = "") : path_(std::move(path)) {}
  StoredModel(const StoredModel&) = delete;
  StoredModel& operator=(const StoredModel&) = delete;
  virtual ~StoredModel() = default;

  const std::string& path() const noexcept { return path_; }
  virtual std::string_view kind() const noexcept = 0;  // "checkpoint", "gguf", "onnx", ...

  // Sizes, epsilon, context and sliding window are as the file says. How positions are rotated may
  // stand there as tables only: ask ReadRotary.
  // Throws   the reason why phiq does not compute this model: pieces, facts and what else a file
  //          says can be looked at all the same.
  virtual const ModelConfig& config() const = 0;
  // What its runtime computes with these weights: that of the model, unless they were changed for
  // it (Expression).
  virtual Network network() const { return NetworkOf(config()); }
  // How these weights say what the model's do.
  virtual Expression expression() const { return {}; }

  // Every tensor of the file. Each weight of the model stands in them once; a tied embedding serves
  // as the head where no piece is the head.
  virtual std::span<const StoredPiece> pieces() const noexcept = 0;

  // Decodes rows [first_row, first_row + n_rows) of a piece (counted in the piece).
  //
  // Shapes    out: [n_rows * row_elements].
  // Threads   safe, with a codec for each.
  virtual void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                        RowCodec& codec, std::span<float> out) const = 0;

  // Bytes that ReadRows of so many rows takes besides the rows themselves, as they are stored and
  // as floats.
  virtual std::uint64_t WorkBytes(std::size_t /*piece*/, std::uint64_t /*n_rows*/) const noexcept {
    return 0;
  }

  // True when the piece has F32, F16 or BF16 as `encoding` says, row behind row: ReadRawRows.
  virtual bool HasRawRows(std::size_t /*piece*/) const noexcept { return false; }
  // The bytes of such rows as they are stored, for what takes these floats without a copy in
  // float32.
  //
  // Shapes    out: n_rows times EncodedRowBytes(encoding, row_elements).
  // Requires  HasRawRows(piece).
  // Threads   safe.
  virtual void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                           std::span<std::byte> out) const;

  // Cosines and sines for positions [0, n_positions) of a text of that length: longrope has other
  // factors for texts longer than the original context.
  //
  // Shapes    cosines, sines: [n_positions, rope_dim / 2].
  // Throws    kBadData: tables of the file that are too short or not finite.
  virtual void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                          std::span<float> sines) const = 0;
  // Where ReadRotary has for such a text what the runtime computes, which is not what the model
  // means; "": nowhere.
  virtual std::string RotaryNote(std::uint64_t /*n_positions*/) const { return ""; }

  // What the runtime rounds besides the weights, and whoever computes with ReadRows does not; "":
  // nothing.
  virtual std::string ActivationNote() const { return ""; }

  // What the file says of its tokenizer.
  // Throws    kBadData, kInput, kUnsupported: there is none that phiq can use.
  virtual Tokenizer ReadTokenizer(const WarningFn& warn) const = 0;

  // What the model is called, and "organisation/name" in the hub cache; "": the file does not tell.
  virtual std::string name() const { return ""; }
  virtual std::string repository_id() const { return ""; }
  // What inspect says of it.
  virtual About Describe(const WarningFn& /*warn*/) const { return {}; }
  // Of a file that phiq wrote: what it keeps of how it was made ("phiq.nan_policy", ...).
  virtual Facts facts() const { return {}; }
  // What is wrong with the file although it can be read.
  virtual std::vector<std::string> FindProblems() const { return {}; }
  // Those of them that mislead other loaders; the weights are what phiq reads.
  virtual std::vector<std::string> FindLoaderProblems() const { return {}; }
  // Of a file that phiq wrote: in what, but the weights' values, it is not what phiq writes of this
  // model today.
  virtual std::vector<std::string> FindDifferences(const Model& /*source*/,
                                                   const SideFiles& /*files*/) const {
    return {};
  }

  // The files beside the weights. Of formats without such files: none are there.
  virtual const SideFiles& side_files() const noexcept;

  // Throws kTryAgain when a file changed since it was opened.
  virtual void CheckUnchanged() const = 0;

 private:
  std::string path_;
};

// Finds the pieces of a weight, and reads rows across them.
class WeightIndex {
 public:
  // Throws   kBadData: a weight of the model is missing, stored twice, or of another shape than the
  //          configuration asks for.
  explicit WeightIndex(const StoredModel& model);

  // Rows [first_row, first_row + n_rows) of a weight as a checkpoint has it (vectors: 1 row). The
  // head of a tied model is its embedding.
  //
  // Throws   kNumeric: NaN or Inf, with the piece, the block and its row.
  // Threads  safe, with a codec for each.
  void ReadRows(WeightId id, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const;

  struct Part {
    std::size_t piece = 0;
    std::uint64_t first_row = 0, n_rows = 0;  // of the weight
  };
  // The pieces of a weight by their first rows.
  std::span<const Part> PartsOf(WeightId id) const;
  // Calls use(piece, its first row, weight's first row, n_rows) for each run of rows of
  // [first_row, first_row + n_rows) that one piece holds.
  template <typename Use>
  void ForEachRun(WeightId weight, std::uint64_t first_row, std::uint64_t n_rows,
                  const Use& use) const {
    const std::uint64_t end = first_row + n_rows;
    for (const Part& part : PartsOf(weight)) {
      const std::uint64_t begin_here = std::max(part.first_row, first_row);
      const std::uint64_t end_here = std::min(part.first_row + part.n_rows, end);
      if (begin_here < end_here)
        use(part.piece, begin_here - part.first_row, begin_here, end_here - begin_here);
    }
  }
  // The piece that holds a row.
  const StoredPiece& PieceOf(WeightId weight, std::uint64_t row) const;
  // The weight that is read for one: of a tied model's head the embedding.
  WeightId StoredAs(WeightId weight) const;
  // Bytes of the rows as they are stored.
  std::uint64_t StoredBytes(WeightId weight, std::uint64_t first_row, std::uint64_t n_rows) const;
  const StoredModel& model() const noexcept { return model_; }

 private:
  struct Weight {
    std::uint64_t row_elements = 0;
    std::vector<Part> parts;
  };
  const Weight& Find(WeightId id) const;

  const StoredModel& model_;
  std::map<WeightId, Weight> weights_;
};

// The model that a file stores: what plans are made from. Reads the tokenizer.
//
// Throws   as ReadTokenizer and WeightIndex.
Model ModelOf(const StoredModel& stored, const WeightIndex& weights, const WarningFn& warn);

// What the weights of a model take as they are stored.
struct WeightTotals {
  std::uint64_t n_weights = 0, size_bytes = 0;
  std::string types;  // "Q4_K, Q6_K, F32": that of most weights first
  double bits_per_weight() const noexcept;
};
WeightTotals TotalsOf(std::span<const StoredPiece> pieces);

}  // namespace phiq
