// How fast this machine is at what long jobs do, measured in some hundredths of a second: for
// estimates of their time.
#pragma once

#include "phiq/plan.h"
#include "phiq/quantize.h"

namespace phiq {

// Operations a second of the engine's product, on all threads.
double MeasureProductRate(unsigned threads);

// Weights a second that a method, which needs no statistics, chooses codes for, on all threads.
double MeasureEncodingRate(const Method& method, const PlanLine& line, unsigned threads);

}  // namespace phiq
