// Checkpoints as transformers saves them: see format.cpp.
#pragma once

#include "formats/format.h"

namespace phiq::pretrained {

extern const Format kFormat;

}  // namespace phiq::pretrained
