// The instruction sets that vector kernels are made for, and how to choose among them.
#pragma once

// Vectors of unknown width (SVE, RVV) cannot stand in arrays; such processors take NEON's kernels
// or the plain loops. So do those with SSSE3 but no SSE4: they are older than any these models are
// for.
#ifndef HWY_DISABLED_TARGETS  // a build for one processor may have said more
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_SSSE3 | HWY_PPC8)
#endif

// On 64-bit Arm only NEON is left, which each of these processors has: nothing is chosen at run
// time. Told so, Highway compiles for it without pragmas, under which GCC 12 takes the constructor
// of a struct of vectors for code of a lesser processor and does not inline what must be.
#if defined(__aarch64__) && !defined(TOOLCHAIN_MISS_SYS_AUXV_H)
#define TOOLCHAIN_MISS_SYS_AUXV_H  // "no means to ask the system what the processor has"
#endif

#include <hwy/targets.h>
