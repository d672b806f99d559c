// The line of the list.
#pragma once

#include "formats/format.h"

namespace phiq::gguf {

extern const Format kFormat;

}  // namespace phiq::gguf
