#include "convert/stored_checkpoint.h"

#include <array>
#include <utility>
#include <vector>

#include "convert/rows.h"
#include "model/rope.h"

namespace phiq {
namespace {

class CheckpointModel final : public StoredModel {
 public:
  explicit CheckpointModel(Source source)
      : StoredModel(source.folder.path().string()),
        source_(std::move(source)),
        tables_(source_.model.config) {
    for (const ModelTensor& tensor : source_.model.tensors) {
      const SourceTensor& stored = source_.checkpoint.tensors()[tensor.source];
      StoredPiece piece;
      piece.name = stored.name;
      piece.role = tensor.role;
      piece.layer = tensor.layer;
      piece.n_rows = stored.shape.size() == 2 ? stored.shape[0] : 1;
      piece.row_elements = stored.shape.back();
      piece.type = DTypeName(stored.dtype);
      piece.encoding = TypeOfSource(stored.dtype);
      piece.size_bytes = stored.size_bytes;
      pieces_.push_back(std::move(piece));
    }
  }

  std::string_view kind() const noexcept override { return "checkpoint"; }
  const ModelConfig& config() const noexcept override { return source_.model.config; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    const StoredPiece& stored = pieces_[piece];
    const std::size_t row_bytes = EncodedRowBytes(stored.encoding, stored.row_elements);
    std::vector<std::byte> bytes(n_rows * row_bytes);
    source_.checkpoint.Read(source_.checkpoint.tensors()[source_.model.tensors[piece].source],
                            first_row * row_bytes, bytes);
    const std::array<std::span<const std::byte>, 1> rows = {bytes};
    codec.Decode(stored.encoding, rows, out);  // floats: rows stand one behind the other
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_.ReadRotary(n_positions, cosines, sines);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    const ModelConfig& config = source_.model.config;
    return phiq::ReadTokenizer(source_.folder, config.vocab_size, config.bos_token_id,
                               config.eos_token_id, config.pad_token_id, warn);
  }

  void CheckUnchanged() const override { source_.checkpoint.CheckUnchanged(); }

 private:
  const Source source_;
  const ConfigTables tables_;
  std::vector<StoredPiece> pieces_;  // beside source_.model.tensors
};

}  // namespace

std::unique_ptr<StoredModel> MakeStoredModel(Source source) {
  return std::make_unique<CheckpointModel>(std::move(source));
}

}  // namespace phiq
