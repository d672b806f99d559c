// What of a target is written so far, as a model: the source, with the weights that the target's
// codes decode to in place of its own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "convert/rows.h"
#include "convert/stream.h"
#include "formats/order.h"
#include "stored/stored_model.h"

namespace phiq {

// The piece of a model that a line of its plan becomes.
StoredPiece PieceOf(const PlanLine& line);

// Rows may be read when they are written, not before; those of experts one expert after the other.
// Not of a target that is a stream.
class WrittenModel : public StoredModel {
 public:
  // Both, and what `target` names, must outlive this.
  WrittenModel(const SourceModel& source, const StreamTarget& target);
  ~WrittenModel() override;

  std::string_view kind() const noexcept override { return "unfinished"; }
  const ModelConfig& config() const override { return source_.model.config; }
  Network network() const override { return source_.stored->network(); }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override;
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    source_.stored->ReadRotary(n_positions, cosines, sines);
  }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return source_.stored->ReadTokenizer(warn);
  }
  void CheckUnchanged() const override {}

  // Bytes that reading holds besides the rows, on all threads together.
  static std::uint64_t HeldBytes(const StreamTarget& target);

 private:
  struct Piece {
    const PlanLine* line = nullptr;
    std::array<const PlacedArray*, kMaxArrays> arrays{};
  };

  const SourceModel& source_;
  const StreamTarget& target_;
  std::vector<StoredPiece> pieces_;
  std::vector<Piece> places_;  // of pieces_
  std::unique_ptr<ColumnBands> columns_;
};

}  // namespace phiq
