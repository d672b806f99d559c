// LoRA adapters as PEFT saves them.
#pragma once

#include <memory>
#include <string>

#include "phiq/checkpoint.h"
#include "stored/stored_model.h"

namespace phiq {

// The model with an adapter merged: W + scale * B A for each weight W that the adapter names, in
// float32, where scale is alpha / r, or alpha / sqrt(r) with rslora. Rows are merged as they are
// read: nothing of the adapter stays in memory but its names.
//
// `adapter`  a folder with adapter_config.json and adapter_model.safetensors, or its name in the
//            hub cache.
// Throws     kInput: no such folder or file. kBadData: tensors that are not those of the model.
//            kUnsupported: adapters that are more than such products (DoRA, biases, ...), named.
// Warns      of files of the adapter that are not used.
// Source     docs/checkpoints.md "Adapters".
std::unique_ptr<StoredModel> MergeAdapter(std::unique_ptr<StoredModel> model,
                                          const std::string& adapter, const WarningFn& warn);

// Warns of an adapter beside the weights, which is not applied. That an adapter alone is no model is
// RequireCheckpoint's to say.
void CheckForAdapter(const CheckpointFolder& folder, const WarningFn& warn);

}  // namespace phiq
