#include "convert/source.h"

#include <utility>

namespace phiq {

Source OpenSource(CheckpointFolder folder, const DescribeOptions& options, const WarningFn& warn) {
  ModelConfig config = ReadModelConfig(folder, warn);
  Checkpoint checkpoint = OpenCheckpoint(folder, warn);
  Model model = DescribeModel(folder, std::move(config), checkpoint, options, warn);
  return {std::move(folder), std::move(checkpoint), std::move(model)};
}

WarningFn WarnOrIgnore(const WarningFn& warn) {
  if (warn) return warn;
  return [](const Warning&) {};
}

}  // namespace phiq
