// Conversion with a calibration text, or with the importance matrix of one: what is planned of it,
// and the stages in which tensors are written when the statistics of their inputs are there.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "calibrate/text.h"
#include "convert/memory.h"
#include "convert/rows.h"
#include "convert/stages.h"
#include "convert/stream.h"
#include "formats/importance.h"
#include "phiq/convert.h"

namespace phiq {

// What is known of a run's calibration before its first layer.
struct Calibration {
  calibrate::CalibrationText text;
  std::optional<Importance> matrix;  // instead of the text
  float shrink = 0;
  bool corrects = false;         // with feedback, weights make up for what was lost before them
  std::size_t widest_block = 0;  // see InputStatistics::Wanted
  bool is_on_disk = false;       // hidden states are in scratch files
  std::uint64_t held_bytes = 0;  // while tensors are written: hidden states, one input's statistics
  std::uint64_t own_bytes = 0;   // while the model writes its own text
  CalibrationPlan planned;       // without the time
};

// Reads the text or the matrix. Where the memory limit does not bear the hidden states, they go to
// the disk; then moments are cut into smaller blocks. Of targets whose method wants more than the
// text gives, the method becomes kImatrix.
//
// `writes_own`  the model writes its own text, where that is wanted; else it is only planned.
// Throws   kUsage: a method that needs a text without one, and the reverse. kResources. As
//          ReadCalibrationText and ReadImportance.
// Warns    as ReadCalibrationText; of methods that change.
Calibration PrepareCalibration(const ConvertOptions& options, const SourceModel& source,
                               std::vector<PlanOptions>& targets, bool writes_own, unsigned threads,
                               const Hooks& hooks);

// Whether the model is to write its own text.
bool WritesOwnText(const ConvertOptions& options);

// PlanMemory of a run with it.
MemoryPlan PlanMemory(Calibration& calibration, std::span<const StreamTarget> targets,
                      const SourceModel& source, std::uint64_t header_bytes, unsigned threads,
                      std::uint64_t limit_bytes, OverflowPolicy overflow);

// What a target's file says of it, where one of CommonMethods chooses codes. What a matrix says
// nothing of has the reference's codes.
//
// Warns    where none of them does.
void Apply(const Calibration& calibration, const SourceModel& source, Plan& plan,
           const WarningFn& warn);

// Estimates the time of WriteCalibrated from rates that it measures (some 0.1 s).
double EstimateSeconds(const Calibration& calibration, const SourceModel& source,
                       std::span<const StreamTarget> targets, unsigned threads);

// Stages that WriteCalibrated has.
std::uint64_t CountStages(const Calibration& calibration, const SourceModel& source);

// Whether the codes of a target are to make up for what is lost before them.
bool IsCorrected(const Calibration& calibration, const Plan& plan);

// StreamTensors of all lines: layer by layer, each weight when the text's moments of its input are
// known. Where error feedback does not pay on held-back text, kImatrix chooses the codes. Of
// outputs that stand (StreamTarget::stored) a corrected one is left at the first input whose
// weights differ: what is behind makes up for their codes.
//
// `inputs`  gets the sums of every input of the unquantized model, of a text.
// `corrections`  one a target: gets its inputs where it is corrected.
// Throws   as StreamTensors, and kNumeric: naming the layer or the input that is not finite.
// Warns    of tensors that feedback did not serve; of too few tokens.
StreamResult WriteCalibrated(const Calibration& calibration, const SourceModel& source,
                             std::span<const StreamTarget> targets, const StreamOptions& options,
                             const Hooks& hooks, Stages& stages, std::vector<InputSquares>& inputs,
                             std::vector<std::vector<InputCorrection>>& corrections);

}  // namespace phiq
