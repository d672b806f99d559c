// What rounding the weights of one kind, in one part of the depth, does to the model's answers:
// measured, since estimates from weights or products tell it badly (docs/calibration.md).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/meter.h"
#include "convert/rows.h"
#include "engine/forward.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq {

// Windows of token ids, one after the other.
struct Windows {
  std::span<const std::uint32_t> ids;
  std::uint32_t n_ctx = 0;  // tokens of each
};

// The source with the lines of `plan` that `takes` names rounded as they are planned.
struct Rounding {
  const Plan* plan = nullptr;
  std::function<bool(const PlanLine&)> takes;
};

// What a measurement may take, and how it is told.
struct Measuring {
  unsigned threads = 1;
  std::uint64_t memory_bytes = 0;
  const Hooks& hooks;
  double estimated_s = 0;  // told with the progress; 0: not known
};

// Bytes of the measurement of so many roundings: as many windows at once as memory bears.
// Throws   kResources: it does not bear one (what that takes is named).
std::uint64_t MeasuringBytes(const ModelConfig& config, std::size_t n_roundings,
                             const Windows& windows, const Measuring& measuring);

// Mean KL(source || rounded) of each rounding over all positions of the windows that have a next
// token, nats. The models run side by side, each from the first layer that is rounded on. The
// digits do not depend on threads or memory.
//
// Memory   MeasuringBytes.
// Throws   as that; kNumeric, kInput, kTryAgain, kInterrupted.
std::vector<double> MeasureDivergences(const SourceModel& source,
                                       std::span<const Rounding> roundings, const Windows& windows,
                                       const Measuring& measuring);

// Matrices of one kind in neighbouring layers.
struct Sensitivity {
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t first_layer = -1, end_layer = 0;  // [first, end); outside the layers [-1, 0)
  std::uint64_t n_weights = 0;
  double kl = 0;  // of rounding all of them, nats

  bool Has(const PlanLine& line) const noexcept {
    return !line.table && line.role == role && line.layer >= first_layer && line.layer < end_layer;
  }
};

// Where they were measured.
struct Sensitivities {
  std::string format, type;  // that all matrices were rounded to, one kind and part after the other
  std::string model;         // SHA-256: architecture; name, width and first row of each weight
  std::string text;          // SHA-256 of the windows
  std::uint64_t n_tokens = 0;
  std::vector<Sensitivity> groups;
};

// One group for the embedding, one for the head, and of each kind of matrix in the layers four, a
// quarter of the depth each (of less than four layers: one a layer).
// `plan`   rounds every matrix to one type.
std::vector<Sensitivity> GroupsOf(const Plan& plan, std::uint32_t n_layers);

// Fills Sensitivity::kl of all groups.
// Returns   the seconds that it was estimated to take, from rates measured before it.
double MeasureSensitivities(const SourceModel& source, const Plan& plan, const Windows& windows,
                            const Measuring& measuring, std::vector<Sensitivity>& groups);

// JSON, and back.
std::string FormatSensitivities(const Sensitivities& sensitivities);
// Throws   kBadData: naming the key. kInput.
Sensitivities ReadSensitivities(const std::string& path);

}  // namespace phiq
