// A checkpoint opened, described and ready to plan: what every command on a MODEL begins with.
#pragma once

#include <string>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq {

struct Source {
  CheckpointFolder folder;
  Checkpoint checkpoint;
  Model model;
};

// Headers only. Throws what the steps throw; the configuration is judged before any shard is
// opened.
Source OpenSource(CheckpointFolder folder, const DescribeOptions& options, const WarningFn& warn);

// hooks.warn, or a function that does nothing where the caller gave none.
WarningFn WarnOrIgnore(const WarningFn& warn);

}  // namespace phiq
