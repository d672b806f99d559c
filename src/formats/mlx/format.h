// The line of the list.
#pragma once

#include "formats/format.h"

namespace phiq::mlx {

extern const Format kFormat;

}  // namespace phiq::mlx
