// config.json as outputs carry it.
#pragma once

#include <optional>
#include <string>

#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq {

// The configuration under the names of the architecture's own class, with what other classes mean
// by keys that are left out written down and without what weights of 8 bits were packed by; nullopt
// where the checkpoint's text says all that already.
//
// Throws   kBadData: no JSON.
std::optional<std::string> OwnConfigText(const CheckpointFolder& folder, const ModelConfig& config);

}  // namespace phiq
