// The source as a plan's output will have it: pieces by the plan's lines, rows of whatever a
// derived class makes of them, all else the source's own.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "convert/rows.h"
#include "phiq/plan.h"
#include "stored/stored_model.h"

namespace phiq {

class PlannedModel : public StoredModel {
 public:
  std::string_view kind() const noexcept override { return "planned"; }
  const ModelConfig& config() const override { return source_.model.config; }
  Network network() const override { return source_.stored->network(); }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    source_.stored->ReadRotary(n_positions, cosines, sines);
  }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return source_.stored->ReadTokenizer(warn);
  }
  void CheckUnchanged() const override { source_.stored->CheckUnchanged(); }

 protected:
  // Both must outlive this.
  PlannedModel(const SourceModel& source, const Plan& plan);

  const SourceModel& source() const noexcept { return source_; }
  // The line that a piece becomes.
  const PlanLine& LineOf(std::size_t piece) const noexcept { return *lines_[piece]; }

 private:
  const SourceModel& source_;
  std::vector<StoredPiece> pieces_;
  std::vector<const PlanLine*> lines_;  // of pieces_: all but tables
};

}  // namespace phiq
