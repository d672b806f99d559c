// A checkpoint as a model that some file stores.
#pragma once

#include <memory>

#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "stored/stored_model.h"

namespace phiq {

// Headers only; the tokenizer is read when somebody asks for it. The configuration is judged before
// any shard is opened.
//
// Throws   as ReadModelConfig, OpenCheckpoint and DescribeModel.
std::unique_ptr<StoredModel> OpenCheckpointModel(CheckpointFolder folder,
                                                 const std::vector<std::string>& ignore_extra,
                                                 const WarningFn& warn);

}  // namespace phiq
