// The way from a PATH to whatever stands there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "convert/rows.h"
#include "phiq/error.h"
#include "stored/checkpoint_model.h"
#include "stored/stored_model.h"

namespace phiq {

enum class InputKind { kCheckpoint, kGguf, kOnnx, kOpenVino, kMlx };

// What `path` must be, by its name and what kind of file it is: a checkpoint also when nothing is
// there (it may be in the hub cache).
InputKind KindOf(const std::string& path) noexcept;

// Opens a GGUF file (of a split one: any part), an ONNX folder or the .onnx in it, an OpenVINO
// folder or the .xml in it, an MLX folder, or a checkpoint. Headers only.
//
// Throws   as the formats' readers and OpenCheckpoint do.
std::unique_ptr<StoredModel> OpenStoredModel(const std::string& path, const WarningFn& warn,
                                             const CheckpointOptions& options = {});

// The model that is to be converted, or that an output was made from: a checkpoint, with its
// tokenizer.
//
// Throws   as LocateCheckpoint, OpenCheckpointModel and SourceModel.
SourceModel OpenSourceModel(const std::string& path, const CheckpointOptions& options,
                            const WarningFn& warn);

}  // namespace phiq
