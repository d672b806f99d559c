// Signals: a conversion stops cleanly when asked to, and the process then dies of that signal.
#pragma once

namespace phiq::cli {

// A reader that goes away ends us silently (SIGPIPE); a file size limit is a write error.
void SetDefaultSignals() noexcept;

// From here on the first SIGINT, SIGTERM, SIGHUP or SIGXCPU only makes StopRequested() true, a
// second one removes the temporaries and ends the process. A signal that the caller has set to be
// ignored stays ignored. SIGPIPE becomes a write error.
void CatchStopSignals() noexcept;

bool StopRequested() noexcept;

// Ends the process by the signal that asked to stop, so that shells and make see it. Returns when
// there was none.
void DieOfStopSignal() noexcept;

}  // namespace phiq::cli
