// The way from a PATH to whatever stands there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "convert/rows.h"
#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "stored/checkpoint_model.h"
#include "stored/stored_model.h"

namespace phiq {

// Opens an output of any format (its file or folder) or a checkpoint. Headers only.
//
// Throws   as the formats' readers and OpenCheckpoint do.
std::unique_ptr<StoredModel> OpenStoredModel(const std::string& path, const WarningFn& warn,
                                             const CheckpointOptions& options = {});

// The model that is to be converted, or that an output was made from, with its tokenizer: a
// checkpoint. Any StoredModel could be one that has the small files which the formats ask for.
//
// Throws   as LocateCheckpoint, OpenCheckpointModel and SourceModel. kUnsupported: an output of
// some
//          format stands there.
// `expression`   of the weights that are wanted; empty: the model's own.
using ExpressionFn = std::function<Expression(const ModelConfig&)>;
CheckpointFolder LocateSource(const std::string& path, const WarningFn& warn);
SourceModel OpenSourceModel(CheckpointFolder folder, const CheckpointOptions& options,
                            const WarningFn& warn, const ExpressionFn& expression = {});

}  // namespace phiq
