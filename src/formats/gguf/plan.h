// The plan of a GGUF file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "phiq/plan.h"

namespace phiq::gguf {

struct FilePlan final : Plan {
  std::optional<std::uint64_t> split_max_bytes;  // --split-max-size
  bool is_reexpressed = false;                   // see expression.h
};

// See Format::plan.
std::unique_ptr<Plan> MakePlan(const Model& model, const PlanOptions& options,
                               const WarningFn& warn);

}  // namespace phiq::gguf
