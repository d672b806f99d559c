// What the program does at its start so that it can end in order when memory runs out.
#pragma once

namespace phiq::cli {

// The C library loads the unwinder when the first exception passes through its own frames, and ends
// the program where that fails: now there is memory.
void PrepareForOutOfMemory() noexcept;

}  // namespace phiq::cli
