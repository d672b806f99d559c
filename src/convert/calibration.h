// Conversion with a calibration text, or with the importance matrix of one: what is planned of it.
// The stages in which tensors are written: calibrated_run.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "calibrate/text.h"
#include "convert/memory.h"
#include "convert/rows.h"
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

// Whether the codes of a target are to make up for what is lost before them.
bool IsCorrected(const Calibration& calibration, const Plan& plan);

}  // namespace phiq
