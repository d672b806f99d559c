// The instruction sets that vector kernels are made for, and how to choose among them.
#pragma once

// Vectors of unknown width (SVE, RVV) cannot stand in arrays; such processors take NEON's kernels
// or the plain loops. So do those with SSSE3 but no SSE4: they are older than any these models are
// for.
#ifndef HWY_DISABLED_TARGETS  // a build for one processor may have said more
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3 | HWY_PPC8)
#endif

#include <hwy/targets.h>
