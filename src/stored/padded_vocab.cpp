// Training adds tokens (a <pad> most often) without giving the embedding a row. Runtimes that read
// rows by id need one.
#include "stored/padded_vocab.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/limits.h"
#include "stored/files_with_config.h"

namespace phiq {
namespace {

constexpr std::string_view kConfigJson = "config.json";

std::optional<std::string> ConfigWithVocab(const SideFiles& files, std::uint32_t vocab_size) {
  const std::optional<std::string> text = files.ReadFile(kConfigJson, limits::kConfigBytes);
  if (!text) return std::nullopt;
  Json json = ParseJson(*text, files.PathOf(kConfigJson).string());
  json["vocab_size"] = vocab_size;
  return json.dump(2) + (text->ends_with('\n') ? "\n" : "");
}

class PaddedModel final : public StoredModel {
 public:
  PaddedModel(std::unique_ptr<StoredModel> base, CheckpointFolder folder, std::uint32_t n_rows)
      : StoredModel(base->path()),
        base_(std::move(base)),
        folder_(std::move(folder)),
        config_(base_->config()),
        files_(base_->side_files(), ConfigWithVocab(base_->side_files(), n_rows)),
        pieces_(base_->pieces().begin(), base_->pieces().end()) {
    const std::uint32_t n_before = std::exchange(config_.vocab_size, n_rows);
    for (const TensorRole role : {TensorRole::kTokenEmbedding, TensorRole::kOutputHead}) {
      const auto first = std::ranges::find(base_->pieces(), role, &StoredPiece::role);
      if (first == base_->pieces().end()) continue;  // a tied head
      StoredPiece added = *first;
      added.first_row = n_before;
      added.n_rows = n_rows - n_before;
      added.shape = {added.n_rows, added.row_elements};
      added.encoding = GgmlType::kF32;
      added.type = "F32";
      added.size_bytes = 0;  // no file has them
      pieces_.push_back(std::move(added));
    }
    means_.resize(pieces_.size() - n_base());
    for (StoredPiece& piece : pieces_) {  // one row, which becomes longer
      if (piece.holds != Holds::kWeight || piece.role != TensorRole::kOutputHeadBias) continue;
      piece.row_elements = n_rows;
      piece.shape = {n_rows};
    }
  }

  std::string_view kind() const noexcept override { return base_->kind(); }
  const ModelConfig& config() const noexcept override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return base_->name(); }
  std::string repository_id() const override { return base_->repository_id(); }
  const SideFiles& side_files() const noexcept override { return files_; }

  std::uint64_t WorkBytes(std::size_t piece, std::uint64_t n_rows) const noexcept override {
    if (piece < n_base()) return base_->WorkBytes(piece, n_rows);
    const std::uint64_t n = pieces_[piece].row_elements;
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < n_base(); ++i)
      if (pieces_[i].role == pieces_[piece].role)
        below = std::max(below, base_->WorkBytes(i, RowsAtOnce(n)));
    // A chunk as stored and as floats, the sums, and the mean itself.
    return 2 * RowsAtOnce(n) * n * sizeof(float) + n * (sizeof(double) + sizeof(float)) + below;
  }
  bool HasRawRows(std::size_t piece) const noexcept override {
    return piece < n_base() && !IsLonger(piece) && base_->HasRawRows(piece);
  }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    base_->ReadRawRows(piece, first_row, n_rows, out);
  }
  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    if (IsLonger(piece)) {
      const std::span<float> own = out.first(base_->pieces()[piece].row_elements);
      base_->ReadRows(piece, first_row, n_rows, codec, own);
      const double sum = std::accumulate(own.begin(), own.end(), 0.0);
      std::ranges::fill(out.subspan(own.size()),
                        static_cast<float>(sum / static_cast<double>(own.size())));
      return;
    }
    if (piece < n_base()) return base_->ReadRows(piece, first_row, n_rows, codec, out);
    const std::vector<float>& mean = MeanOf(piece, codec);
    for (std::uint64_t row = 0; row < n_rows; ++row)
      std::ranges::copy(mean, out.subspan(row * mean.size()).begin());
  }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    base_->ReadRotary(n_positions, cosines, sines);
  }
  std::string RotaryNote(std::uint64_t n_positions) const override {
    return base_->RotaryNote(n_positions);
  }
  std::string ActivationNote() const override { return base_->ActivationNote(); }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return phiq::ReadTokenizer(folder_, config_.vocab_size, config_.bos_token_id,
                               config_.eos_token_id, config_.pad_token_id, warn);
  }
  void CheckUnchanged() const override { base_->CheckUnchanged(); }

 private:
  std::size_t n_base() const noexcept { return base_->pieces().size(); }

  // The head's bias.
  bool IsLonger(std::size_t piece) const noexcept {
    return piece < n_base() && pieces_[piece].row_elements != base_->pieces()[piece].row_elements;
  }

  static std::uint64_t RowsAtOnce(std::uint64_t row_elements) noexcept {
    constexpr std::uint64_t kElements = 1U << 16U;
    return std::max<std::uint64_t>(1, kElements / row_elements);
  }

  const std::vector<float>& MeanOf(std::size_t piece, RowCodec& codec) const {
    const std::scoped_lock lock(mutex_);
    std::vector<float>& mean = means_[piece - n_base()];
    if (!mean.empty()) return mean;
    const std::uint64_t n = pieces_[piece].row_elements;
    std::vector<double> sums(n);
    std::vector<float> rows;
    for (std::size_t i = 0; i < n_base(); ++i) {
      const StoredPiece& stored = pieces_[i];
      if (stored.holds != Holds::kWeight || stored.role != pieces_[piece].role) continue;
      for (std::uint64_t row = 0; row < stored.n_rows;) {
        const std::uint64_t n_rows = std::min(RowsAtOnce(n), stored.n_rows - row);
        rows.resize(n_rows * n);
        base_->ReadRows(i, row, n_rows, codec, rows);
        for (std::size_t at = 0; at < rows.size(); ++at) sums[at % n] += rows[at];
        row += n_rows;
      }
    }
    const double count = base_->config().vocab_size;
    mean.reserve(n);
    for (const double sum : sums) mean.push_back(static_cast<float>(sum / count));
    return mean;
  }

  const std::unique_ptr<StoredModel> base_;
  const CheckpointFolder folder_;
  ModelConfig config_;
  const FilesWithConfig files_;                    // refers to base_
  std::vector<StoredPiece> pieces_;                // those of base_, then the new rows
  mutable std::mutex mutex_;                       // of means_
  mutable std::vector<std::vector<float>> means_;  // beside the new rows; empty: not asked for yet
};

}  // namespace

std::uint32_t CountTokens(const CheckpointFolder& folder) {
  const Tokenizer tokenizer =
      ReadTokenizer(folder, limits::kVocab, std::nullopt, std::nullopt, std::nullopt, {});
  std::size_t n = std::max(tokenizer.pieces.size(), tokenizer.vocab.size());
  if (!tokenizer.added_tokens.empty())  // the last has the largest id
    n = std::max(n, std::size_t{tokenizer.added_tokens.back().id} + 1);
  return static_cast<std::uint32_t>(n);
}

std::unique_ptr<StoredModel> PadVocabulary(std::unique_ptr<StoredModel> model,
                                           CheckpointFolder folder, std::uint32_t n_tokens,
                                           std::uint32_t multiple) {
  const std::uint32_t n_before = model->config().vocab_size;
  const std::uint64_t least = std::max(n_before, n_tokens);
  const std::uint64_t n_rows = (least + multiple - 1) / multiple * multiple;
  if (n_rows > limits::kVocab) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("--pad-vocab {}: {} rows, a vocabulary has at most {}", multiple,
                            n_rows, limits::kVocab))
        .In(model->path());
  }
  if (n_rows == n_before) return model;
  return std::make_unique<PaddedModel>(std::move(model), std::move(folder),
                                       static_cast<std::uint32_t>(n_rows));
}

}  // namespace phiq
