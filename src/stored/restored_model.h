// The checkpoint that a model was made from, as far as a file of another format has it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "stored/stored_model.h"

namespace phiq {

// The model with a config.json and the tokenizer's files beside it, to be converted again.
//
// Weights     are what the file's decode to. What was changed in them for a runtime that computes
//             something else than the model is undone where that changes the model (Expression).
// config.json is the file's own; else it is made of what the file says, if the model is rotated so
//             as the file says; else it is that of `beside`.
// Tokenizer   is that of `beside`, with all small files there; else the file's own.
//
// Throws   kBadData: a config.json of another model than the weights; a tokenizer of another one;
//          what is wrong with the file although it can be read. kInput: neither has a config.json.
//          As config() and ReadModelConfig.
std::unique_ptr<StoredModel> Restore(std::unique_ptr<StoredModel> model,
                                     std::optional<CheckpointFolder> beside, const WarningFn& warn);

// The types of the weights, "Q4_K, Q6_K, F32", where some of them are not plain floats; else "".
std::string LossyTypesOf(const StoredModel& model);

}  // namespace phiq
