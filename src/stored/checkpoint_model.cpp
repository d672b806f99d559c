// Every piece is a whole tensor of floats: rows are read as they stand.
#include "stored/checkpoint_model.h"

#include <utility>
#include <vector>

#include "model/float_types.h"
#include "model/rope.h"

namespace phiq {
namespace {

class CheckpointModel final : public StoredModel {
 public:
  CheckpointModel(CheckpointFolder folder, Checkpoint checkpoint, Model model)
      : StoredModel(folder.path().string()),
        folder_(std::move(folder)),
        checkpoint_(std::move(checkpoint)),
        config_(std::move(model.config)),
        tables_(config_) {
    for (const ModelTensor& tensor : model.tensors) {
      const SourceTensor& stored = *checkpoint_.Find(tensor.name);
      StoredPiece piece;
      piece.name = stored.name;
      piece.role = tensor.role;
      piece.layer = tensor.layer;
      piece.n_rows = stored.shape.size() == 2 ? stored.shape[0] : 1;
      piece.row_elements = stored.shape.back();
      piece.type = DTypeName(stored.dtype);
      // DescribeModel has refused every other dtype.
      piece.encoding = GgmlTypeOf(FloatTypeOf(stored.dtype).value());
      piece.size_bytes = stored.size_bytes;
      piece.file = checkpoint_.shards()[stored.shard].string();
      pieces_.push_back(std::move(piece));
      tensors_.push_back(&stored);
    }
  }

  std::string_view kind() const noexcept override { return "checkpoint"; }
  const ModelConfig& config() const noexcept override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return folder_.model_name(); }
  std::string repository_id() const override { return folder_.repository_id(); }
  const SideFiles& side_files() const noexcept override { return folder_; }

  bool HasRawRows(std::size_t) const noexcept override { return true; }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    checkpoint_.Read(*tensors_[piece], first_row * (out.size() / n_rows), out);
  }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec&,
                std::span<float> out) const override {
    const GgmlType type = std::get<GgmlType>(pieces_[piece].encoding);
    std::vector<std::byte> bytes(GgmlRowBytes(type, out.size()));
    ReadRawRows(piece, first_row, n_rows, bytes);
    DequantizeGgmlRow(type, bytes, out);  // floats: rows stand one behind the other
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_.ReadRotary(n_positions, cosines, sines);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return phiq::ReadTokenizer(folder_, config_.vocab_size, config_.bos_token_id,
                               config_.eos_token_id, config_.pad_token_id, warn);
  }

  void CheckUnchanged() const override { checkpoint_.CheckUnchanged(); }

 private:
  const CheckpointFolder folder_;
  const Checkpoint checkpoint_;
  const ModelConfig config_;
  const ConfigTables tables_;  // refers to config_
  std::vector<StoredPiece> pieces_;
  std::vector<const SourceTensor*> tensors_;  // beside pieces_
};

}  // namespace

std::unique_ptr<StoredModel> OpenCheckpointModel(CheckpointFolder folder,
                                                 const std::vector<std::string>& ignore_extra,
                                                 const WarningFn& warn) {
  const WarningFn warn_or_not = WarnOrIgnore(warn);
  ModelConfig config = ReadModelConfig(folder, warn_or_not);
  Checkpoint checkpoint = OpenCheckpoint(folder, warn_or_not);
  DescribeOptions options;
  options.tokenizer = false;
  options.ignore_extra = ignore_extra;
  Model model = DescribeModel(folder, std::move(config), checkpoint, options, warn_or_not);
  return std::make_unique<CheckpointModel>(std::move(folder), std::move(checkpoint),
                                           std::move(model));
}

}  // namespace phiq
