// A made-up format: rows of float32 in one file, and a JSON index of them. What it takes to add a
// format, kept true by every build.
#pragma once

#include "formats/format.h"

namespace phiq::rawrows {

extern const Format kFormat;

}  // namespace phiq::rawrows
