// A checkpoint as a model that some file stores.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "stored/stored_model.h"

namespace phiq {

// Headers only; the tokenizer is read when somebody asks for it. The configuration is judged before
// any shard is opened.
//
// Reads of the embedding of a tied model that stores a head as well compare the two.
//
// Throws   as ReadModelConfig, OpenCheckpoint and FindWeights.
std::unique_ptr<StoredModel> OpenCheckpointModel(CheckpointFolder folder,
                                                 const std::vector<std::string>& ignore_extra,
                                                 const WarningFn& warn);

}  // namespace phiq
