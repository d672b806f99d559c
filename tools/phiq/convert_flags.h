// The options that `quantize` and `plan` share: as given, and what they mean together.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "phiq/convert.h"
#include "report_flags.h"

namespace phiq::cli {

struct ConvertFlags {
  std::string model;
  std::optional<std::string> output, profile, precision, format, type, method, group_size, ratio;
  std::optional<std::string> ep, min_onnxruntime, activations, accuracy_level, max_length,
      mlx_rounding;
  std::optional<std::string> split_max_size, nan, overflow, threads, memory_limit;
  std::vector<std::string> tensor_types, ignore_extra, adapters;
  bool sym = false, asym = false, strict_types = false;
  bool force = false, skip_existing = false, mkdir = false;
  bool no_space_check = false, no_fsync = false, dry_run = false;
  ReportFlags report;
};

void AddConvertFlags(CLI::App& command, ConvertFlags& flags);

// What the options mean together.
// Throws   kUsage, naming the option; kUnsupported, kInput, kBadData as LoadProfile does.
ConvertOptions ResolveConvertFlags(const ConvertFlags& flags);

// The line of --verbose. Needs a Reporter to have set the level.
void LogDecisions(const ConvertOptions& options);

// Plans and prints the plan: `phiq plan`, and `phiq quantize --dry-run`.
int ShowPlan(const ConvertFlags& flags);

}  // namespace phiq::cli
