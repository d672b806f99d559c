// A checkpoint as a model that some file stores.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/model.h"
#include "stored/stored_model.h"

namespace phiq {

struct CheckpointOptions {
  std::vector<std::string> ignore_extra;        // globs of tensors that need no role
  std::vector<std::string> adapters;            // merged one after the other
  std::optional<std::uint32_t> pad_vocab = {};  // rows up to a multiple of it (PadVocabulary)
};

// Headers only; the tokenizer is read when somebody asks for it. The configuration is judged before
// any shard is opened.
//
// Reads of the embedding of a tied model that stores a head as well compare the two.
//
// Throws   as ReadModelConfig, OpenCheckpoint, FindWeights and MergeAdapter; kUnsupported: an
//          adapter in place of a model.
// Warns    of an adapter beside the model that `options` do not name.
std::unique_ptr<StoredModel> OpenCheckpointModel(CheckpointFolder folder,
                                                 const CheckpointOptions& options,
                                                 const WarningFn& warn);

}  // namespace phiq
