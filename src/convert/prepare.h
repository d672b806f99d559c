// A conversion up to its first byte: model, plans, layouts, memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "convert/calibration.h"
#include "convert/job.h"
#include "convert/memory.h"
#include "convert/output.h"
#include "convert/rows.h"
#include "phiq/convert.h"

namespace phiq {

// Everything that is final before the first byte is written.
struct Prepared {
  SourceModel source;
  std::vector<Output> targets;
  MemoryPlan memory;
  std::uint64_t scored_bytes = 0;  // of weights, read to plan
  std::optional<Calibration> calibration;
  std::vector<std::optional<MixReport>> mixes;  // of the targets
  std::optional<std::uint32_t> n_ctx;           // as in ConvertOptions
};

// How far a run is prepared.
enum class Depth : std::uint8_t {
  // A plan that depends on weights is made as if they were all alike: enough to see what is wrong
  // with the options.
  kOptions,
  kPlan,  // all but a text that the model has to write
  kRun,
};

// Throws   as OpenSourceModel, PrepareCalibration, ChooseMix, PlanTarget, LayOut and PlanMemory;
//          planners' errors and warnings with the path of the model's config.json.
Prepared Prepare(const ConvertOptions& options, Job job, const Hooks& hooks, Depth depth);

ConversionPlan Describe(const Prepared& prepared);

// For all outputs together: each alone may fit.
// Throws   kOutput: the disk is too full.
void CheckSpaceOfAll(const ConvertOptions& options, const Prepared& prepared);

}  // namespace phiq
