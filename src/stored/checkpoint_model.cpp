// Pieces are the tensors of the checkpoint: floats as they stand, or decoded.
#include "stored/checkpoint_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/diagnosis.h"
#include "model/config_text.h"
#include "model/find_weights.h"
#include "model/float_types.h"
#include "model/rope.h"
#include "phiq/text.h"
#include "stored/adapter.h"
#include "stored/files_with_config.h"
#include "stored/padded_vocab.h"
#include "stored/tensor_floats.h"

namespace phiq {
namespace {

class CheckpointModel final : public StoredModel {
 public:
  CheckpointModel(CheckpointFolder folder, Checkpoint checkpoint, ModelConfig config,
                  std::vector<TensorRows> rows)
      : StoredModel(folder.path().string()),
        folder_(std::move(folder)),
        checkpoint_(std::move(checkpoint)),
        config_(std::move(config)),
        files_(folder_, OwnConfigText(folder_, config_)),
        tables_(config_),
        rows_(std::move(rows)) {
    for (const TensorRows& of : rows_) {
      const SourceTensor& stored = TensorOf(of);
      StoredPiece piece;
      piece.name = stored.name;
      piece.role = of.weight.role;
      piece.layer = of.weight.layer;
      piece.first_row = of.first_row;
      piece.n_rows = of.n_rows;
      piece.row_elements = of.row_elements;
      piece.shape = IsVector(piece.role) ? std::vector<std::uint64_t>{of.row_elements}
                                         : std::vector<std::uint64_t>{of.n_rows, of.row_elements};
      piece.type = DTypeName(stored.dtype);
      piece.encoding = GgmlTypeOf(FloatTypeOf(stored.dtype).value_or(FloatType::kF32));
      piece.size_bytes = SizeBytesOf(of);
      piece.file = checkpoint_.shards()[stored.shard].string();
      pieces_.push_back(std::move(piece));
    }
  }

  std::string_view kind() const noexcept override { return "checkpoint"; }
  const ModelConfig& config() const override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return folder_.model_name(); }
  std::string repository_id() const override { return folder_.repository_id(); }
  const SideFiles& side_files() const noexcept override { return files_; }

  bool HasRawRows(std::size_t piece) const noexcept override {
    return FloatTypeOf(TensorOf(rows_[piece]).dtype).has_value() && !rows_[piece].twin;
  }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    const TensorRows& of = rows_[piece];
    checkpoint_.Read(TensorOf(of), (of.tensor_row + first_row) * (out.size() / n_rows), out);
  }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec&,
                std::span<float> out) const override {
    const TensorRows& of = rows_[piece];
    ReadFloats(checkpoint_, TensorOf(of), (of.tensor_row + first_row) * of.row_elements, out);
    if (of.scales) ScaleRows(checkpoint_, *of.scales, of.row_elements, first_row, out);
    if (!of.twin) return;
    std::vector<float> same(of.row_elements);  // a row at a time: a chunk may be a thread's share
    for (std::uint64_t r = 0; r < n_rows; ++r) {
      ReadFloats(checkpoint_, checkpoint_.tensors()[*of.twin], (first_row + r) * same.size(), same);
      if (!AreSame(out.subspan(r * same.size(), same.size()), same)) RefuseTwin(of);
    }
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_.ReadRotary(n_positions, cosines, sines);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return phiq::ReadTokenizer(folder_, config_.vocab_size, config_.bos_token_id,
                               config_.eos_token_id, config_.pad_token_id, warn);
  }

  About Describe(const WarningFn& warn) const override {
    About about;
    about.metadata.emplace_back("model", Escape(name()));
    AddConfig(config_, about);
    AddTokenizer(ReadTokenizer(warn), about);
    return about;
  }

  Facts facts() const override {
    Facts facts;
    for (const auto& [key, value] : checkpoint_.metadata())
      if (key.starts_with("phiq.")) facts.emplace_back(key, value);
    return facts;
  }

  void CheckUnchanged() const override { checkpoint_.CheckUnchanged(); }

 private:
  const SourceTensor& TensorOf(const TensorRows& rows) const {
    return checkpoint_.tensors()[rows.tensor];
  }

  // Of the rows' share of their tensor.
  std::uint64_t SizeBytesOf(const TensorRows& rows) const {
    const SourceTensor& tensor = TensorOf(rows);
    const std::uint64_t n_elements = tensor.n_elements();
    return n_elements == 0 ? 0 : tensor.size_bytes / n_elements * (rows.n_rows * rows.row_elements);
  }

  static bool AreSame(std::span<const float> a, std::span<const float> b) {
    return std::ranges::equal(
        a, b, [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
  }

  // Some row of a head is not that of the embedding: names the first element, whatever row was
  // met first.
  void RefuseTwin(const TensorRows& of) const {
    const SourceTensor& head = checkpoint_.tensors()[*of.twin];
    std::vector<float> a(of.row_elements), b(of.row_elements);
    for (std::uint64_t row = 0; row < of.n_rows; ++row) {
      ReadFloats(checkpoint_, TensorOf(of), row * a.size(), a);
      ReadFloats(checkpoint_, head, row * b.size(), b);
      for (std::size_t i = 0; i < a.size(); ++i) {
        if (AreSame(std::span(a).subspan(i, 1), std::span(b).subspan(i, 1))) continue;
        throw Error(ErrorCode::kBadData,
                    fmt::format("element {} is {}, the embedding has {}, but tie_word_embeddings "
                                "is true",
                                row * of.row_elements + i, b[i], a[i]))
            .In(checkpoint_.shards()[head.shard].string())
            .Tensor(head.name)
            .Hint("set tie_word_embeddings to false if the model has a head of its own");
      }
    }
  }

  const CheckpointFolder folder_;
  const Checkpoint checkpoint_;
  const ModelConfig config_;
  const FilesWithConfig files_;  // refers to folder_, with config.json as outputs carry it
  const ConfigTables tables_;    // refers to config_
  const std::vector<TensorRows> rows_;
  std::vector<StoredPiece> pieces_;  // beside rows_
};

}  // namespace

std::unique_ptr<StoredModel> OpenCheckpointModel(CheckpointFolder folder,
                                                 const CheckpointOptions& options,
                                                 const WarningFn& warn) {
  const WarningFn warn_or_not = WarnOrIgnore(warn);
  std::error_code ignored;
  const bool is_named = std::ranges::any_of(options.adapters, [&](const std::string& adapter) {
    return std::filesystem::equivalent(adapter, folder.path(), ignored);
  });
  if (!is_named) CheckForAdapter(folder, warn_or_not);
  RequireCheckpoint(folder);
  // Whether they are quantized is seen from the weights.
  const std::uint32_t n_tokens = options.pad_vocab ? CountTokens(folder) : 0;
  ModelConfig config = ReadModelConfig(folder, warn_or_not, QuantizedWeights::kAllow, n_tokens);
  Checkpoint checkpoint = OpenCheckpoint(folder, warn_or_not);
  std::vector<TensorRows> rows =
      FindWeights(folder, config, checkpoint, options.ignore_extra, warn_or_not);
  std::unique_ptr<StoredModel> model = std::make_unique<CheckpointModel>(
      folder, std::move(checkpoint), std::move(config), std::move(rows));
  if (options.pad_vocab)
    model = PadVocabulary(std::move(model), std::move(folder), n_tokens, *options.pad_vocab);
  for (const std::string& adapter : options.adapters)
    model = MergeAdapter(std::move(model), adapter, warn_or_not);
  return model;
}

}  // namespace phiq
