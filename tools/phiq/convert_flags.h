// The options that `quantize` and `plan` share: as given, and what they mean together.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calibration_flags.h"
#include "phiq/convert.h"
#include "report_flags.h"

namespace phiq::cli {

struct ConvertFlags {
  std::string model;
  std::optional<std::string> output, profile, precision, format, nan, overflow, threads,
      memory_limit;
  // What is given to --type, --method and the options of the formats: "VALUE" or "FORMAT=VALUE",
  // of switches "true" or "FORMAT".
  std::map<std::string, std::vector<std::string>> knobs;
  std::map<std::string, std::optional<std::string>> switches;
  std::vector<std::string> tensor_types, ignore_extra, adapters;
  CalibrationFlags calibration;
  std::optional<std::string> calibration_out, shrink, imatrix_out;
  std::optional<std::string> target_size, target_bpw, target_kl, device_memory, ctx, sensitivities;
  std::optional<std::string> pad_vocab, tokenizer;
  bool strict_types = false, no_correction = false;
  bool force = false, skip_existing = false, mkdir = false, resume = false;
  bool no_space_check = false, no_fsync = false, sha256 = false, dry_run = false;
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
