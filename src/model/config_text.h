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
std::optional<std::string> OwnConfigText(const SideFiles& files, const ModelConfig& config);

// The configuration of a model whose file has no config.json: all that ReadModelConfig and the
// class in transformers look at, so that the same configuration is read from it again. Numbers that
// the file does not have (0) are left to the class.
std::string MakeConfigText(const ModelConfig& config);

}  // namespace phiq
