// The calibration of an output that stands, from the same inputs once more.
#pragma once

#include "convert/calibration.h"
#include "convert/rows.h"
#include "phiq/hooks.h"
#include "phiq/inspect.h"
#include "phiq/plan.h"

namespace phiq {

// What options.calibration gives, with the method, the shrinkage, the correction and the blocks
// that the output's `facts` name. A text that the model writes itself is written again.
//
// Throws   kUsage: the output names no calibration, or another text or matrix. kBadData: what it
//          names cannot be. As PrepareCalibration.
Calibration PrepareSame(const VerifyOptions& options, const Facts& facts, const SourceModel& source,
                        unsigned threads, const Hooks& hooks);

}  // namespace phiq
