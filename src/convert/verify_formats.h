// `phiq verify`, one function a format.
#pragma once

#include "phiq/inspect.h"

namespace phiq {

Verification VerifyGguf(const VerifyOptions& options, unsigned threads, const Hooks& hooks);
Verification VerifyMlx(const VerifyOptions& options, unsigned threads, const Hooks& hooks);
Verification VerifyOnnx(const VerifyOptions& options, unsigned threads, const Hooks& hooks);
Verification VerifyOpenVino(const VerifyOptions& options, unsigned threads, const Hooks& hooks);

}  // namespace phiq
