// What a folder is that is no checkpoint.
#pragma once

#include <string>

#include "phiq/checkpoint.h"
#include "phiq/error.h"

namespace phiq {

// Throws   what NoCheckpoint returns, when config.json or the weights are missing; as
//          FindWeightFiles does.
void RequireCheckpoint(const CheckpointFolder& folder);

// What stands in the folder in place of a checkpoint, and what to do about it: outputs of phiq and
// other converters, an adapter, a training state, pickles, weights of other names, checkpoints in
// folders below; or what is missing. Reads names, and of an adapter's configuration its base model.
//
// Returns  kUnsupported: all of it is there, but it is something else. kInput: something is
// missing.
Error NoCheckpoint(const CheckpointFolder& folder);

// The same for one file that is neither a folder nor weights.
Error NoCheckpointFile(const std::string& path);

}  // namespace phiq
