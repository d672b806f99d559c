// Folders for transformers and vLLM: see format.cpp.
#pragma once

#include "formats/format.h"

namespace phiq::torch {

extern const Format kFormat;

}  // namespace phiq::torch
