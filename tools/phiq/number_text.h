// Numbers as people want to read them. Never asks the locale.
#pragma once

#include <string>

#include "phiq/evaluate.h"

namespace phiq::cli {

// Four significant digits: "14.94", "0.01494", "12,350" (all of the whole part), "3.210×10⁻⁵" below
// 1e-3 and from 1e7 on; "∞", "−∞" and "NaN" for what is no number.
std::string FormatFigure(double value);

// As few digits as tell it: "0.5", "20", "2×10⁻⁵", "10⁻⁵"; for numbers that are round already.
std::string FormatTick(double value);

// "14.30 ± 0.12": as many decimals as the standard error has with two significant digits.
// Without an error (zero or not finite) the value alone, as FormatFigure has it.
std::string FormatEstimate(const Estimate& estimate);

// A share between 0 and 1: "93.41 %", and as an estimate "93.41 ± 0.22 %".
std::string FormatShare(double share);
std::string FormatShare(const Estimate& share);

}  // namespace phiq::cli
