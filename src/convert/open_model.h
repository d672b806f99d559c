// The way from a PATH to whatever stands there.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert/rows.h"
#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "stored/checkpoint_model.h"
#include "stored/stored_model.h"

namespace phiq {

struct Format;

// Opens an output of any format (its file or folder) or a checkpoint. Headers only.
//
// Throws   as the formats' readers and OpenCheckpoint do.
std::unique_ptr<StoredModel> OpenStoredModel(const std::string& path, const WarningFn& warn,
                                             const CheckpointOptions& options = {});

// Where a model stands that is to be converted, or that an output was made from.
struct Source {
  Source() = default;
  Source(CheckpointFolder checkpoint)
      : path(checkpoint.path().string()),
        folder(std::move(checkpoint)),
        name(folder->model_name()) {}

  std::string path;
  std::optional<CheckpointFolder> folder;  // with its small files; nullopt: it is a file
  std::string name;                        // what outputs are called after
  const Format* format = nullptr;          // nullptr: a checkpoint, as far as is known
  std::optional<CheckpointFolder> beside;  // with the tokenizer to take instead

  const SideFiles& files() const noexcept;
};
// `tokenizer`   a folder; "": the model's own.
// Throws   as LocateCheckpoint.
Source LocateSource(const std::string& path, const WarningFn& warn,
                    const std::string& tokenizer = "");

// The model, with its tokenizer: a checkpoint, or what Restore makes of a file of some format.
//
// `expression`   of the weights that are wanted; empty: the model's own.
// Throws   as OpenCheckpointModel, Restore, MergeAdapter and SourceModel. kUsage: options that only
//          a checkpoint has.
// Warns    of weights that have lost something before.
using ExpressionFn = std::function<Expression(const ModelConfig&)>;
SourceModel OpenSourceModel(Source source, const CheckpointOptions& options, const WarningFn& warn,
                            const ExpressionFn& expression = {});

}  // namespace phiq
