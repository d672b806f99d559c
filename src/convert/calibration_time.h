// How long a calibrated conversion takes.
#pragma once

#include <span>

#include "convert/calibration.h"
#include "convert/rows.h"
#include "convert/stream.h"

namespace phiq {

// Estimates the time of WriteCalibrated from rates that it measures (some 0.1 s).
double EstimateSeconds(const Calibration& calibration, const SourceModel& source,
                       std::span<const StreamTarget> targets, unsigned threads);

}  // namespace phiq
