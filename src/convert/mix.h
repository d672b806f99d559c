// Types chosen tensor by tensor: what each type would lose of each tensor, and the best of all that
// fits (ConvertOptions::mix, Format::types_by_loss).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "convert/calibration.h"
#include "convert/rows.h"
#include "phiq/convert.h"

namespace phiq {

// Of all files of such a target.
using OutputBytes = std::function<std::uint64_t(const PlanOptions&)>;

// Adds rules to `target` that give matrices the types they are to have, before those that the
// target has already: every matrix for a size or a loss; those that the plan asks questions about
// where losses are to decide on them.
//
// `calibration`  what is measured on; nullptr, or without a text: options.mix->sensitivities.
// `is_plan`      without a goal it is told what sizes would lose.
// Returns  nullopt: nothing was to be chosen.
// Throws   kNo: nothing is as small, or loses as little, naming what comes nearest. kUsage: of a
//          loss without a text; of a format whose tensors have one type; as DeviceMemoryOf.
//          kBadData: sensitivities of another model. As MeasureDivergences.
// Warns    where a recipe is taken, for want of a text.
std::optional<MixReport> ChooseMix(const ConvertOptions& options, const SourceModel& source,
                                   const Calibration* calibration, unsigned threads,
                                   const OutputBytes& output_bytes, bool is_plan,
                                   PlanOptions& target, const Hooks& hooks);

}  // namespace phiq
