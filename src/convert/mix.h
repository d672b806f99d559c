// Types chosen tensor by tensor: what each type would lose of each tensor, and the best of all that
// fits (ConvertOptions::mix).
#pragma once

#include <functional>

#include "convert/calibration.h"
#include "convert/rows.h"
#include "phiq/convert.h"

namespace phiq {

// Adds rules to `target` that give every matrix the type it is to have, before those that the
// target has already.
//
// `calibration`  what is measured on; nullptr, or without a text: options.mix->sensitivities.
// `output_bytes`  of all files of such a target.
// Throws   kNo: nothing is as small, or loses as little, naming what comes nearest. kUsage: of a
//          loss without a text; of a format whose tensors have one type. kBadData: sensitivities of
//          another model. As MeasureDivergences.
// Warns    where a recipe is taken, for want of a text.
MixReport ChooseMix(const ConvertOptions& options, const SourceModel& source,
                    const Calibration* calibration, unsigned threads,
                    const std::function<std::uint64_t(const PlanOptions&)>& output_bytes,
                    PlanOptions& target, const Hooks& hooks);

}  // namespace phiq
