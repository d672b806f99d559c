// Highway's header that includes a kernel's source (HWY_TARGET_INCLUDE) once for each instruction
// set, after the list of those.
#pragma once

// clang-format off
#include "kernels/simd/targets.h"
#include <hwy/foreach_target.h>
// clang-format on
