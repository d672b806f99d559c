// Signal handling; the handler uses async-signal-safe functions only.
#include "signals.h"

#include <atomic>
#include <csignal>

#include "phiq/convert.h"

namespace phiq::cli {
namespace {

std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

void OnStopSignal(int number) {
  int none = 0;
  if (stop_signal.compare_exchange_strong(none, number)) return;
  UnlinkTemporaries();
  std::signal(number, SIG_DFL);
  std::raise(number);  // delivered when this handler returns
}

}  // namespace

void SetDefaultSignals() noexcept {
  std::signal(SIGPIPE, SIG_DFL);
  std::signal(SIGXFSZ, SIG_IGN);
}

void CatchStopSignals() noexcept {
  std::signal(SIGPIPE, SIG_IGN);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGXCPU}) {
    struct sigaction action = {};
    sigaction(number, nullptr, &action);
    if (action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = OnStopSignal;
    action.sa_flags = SA_RESTART;
    sigaction(number, &action, nullptr);
  }
}

bool StopRequested() noexcept { return stop_signal != 0; }

void DieOfStopSignal() noexcept {
  const int number = stop_signal;
  if (number == 0) return;
  std::signal(number, SIG_DFL);
  std::raise(number);
}

}  // namespace phiq::cli
