// The source with some of its weights as a plan's types would make them: what a type does to the
// model's answers is seen before anything is written.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "convert/rows.h"
#include "phiq/plan.h"
#include "stored/stored_model.h"

namespace phiq {

class RoundedModel : public StoredModel {
 public:
  using Choice = std::function<bool(const PlanLine&)>;

  // Both must outlive this. Lines that `takes` says no to keep their weights. Codes are those of
  // the lines' own methods, which need no statistics.
  RoundedModel(const SourceModel& source, const Plan& plan, Choice takes);

  std::string_view kind() const noexcept override { return "rounded"; }
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
  void CheckUnchanged() const override { source_.stored->CheckUnchanged(); }

 private:
  const SourceModel& source_;
  std::vector<StoredPiece> pieces_;
  std::vector<const PlanLine*> rounded_;  // of pieces_; nullptr: as it is
};

// Rows become what their codes decode to.
//
// Shapes    rows: [n_rows, n]
// Requires  as Method::quantize, of one that needs nothing.
void RoundRows(const Method& method, const Encoding& encoding, std::size_t n, RowCodec& codec,
               std::span<float> rows);

}  // namespace phiq
