// What codes are chosen by: the options that `quantize`, `plan` and `verify` share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/calibration.h"
#include "phiq/error.h"

namespace phiq::cli {

struct CalibrationFlags {
  std::vector<std::string> texts, ids;
  std::optional<std::string> tokens, ctx, imatrix;
};

// Adds --calibrate, --calibration-ids, --calibration-tokens, --calibration-ctx and --imatrix.
void AddCalibrationFlags(CLI::App& command, const std::string& group, CalibrationFlags& flags);

// What they mean; nullopt: neither a text nor an importance matrix.
// Throws   kUsage, naming the option.
std::optional<CalibrationOptions> ResolveCalibrationFlags(const CalibrationFlags& flags);

// Of an option that only says how a text is used.
Error NeedsText(std::string_view option);

}  // namespace phiq::cli
