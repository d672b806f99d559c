// A pool that lives for one call. Items are handed out in increasing order, so every item below a
// failed one has been started; letting those finish makes the reported failure the same for any
// number of threads.
#include "io/parallel.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "phiq/error.h"

namespace phiq {
namespace {

constexpr std::size_t kNoItem = std::numeric_limits<std::size_t>::max();
constexpr std::chrono::milliseconds kTick(100);

class Pool {
 public:
  using Work = std::function<void(std::size_t item, unsigned worker)>;

  Pool(unsigned n_threads, std::size_t n_items, const Work& work, const ParallelHooks& hooks)
      : n_items_(n_items), work_(work), hooks_(hooks), current_(n_threads, kNoItem) {
    threads_.reserve(n_threads);
  }

  void Run() {
    if (IsStopRequested()) throw Interrupted();
    Start();
    try {
      Watch();
    } catch (...) {
      Stop(std::current_exception());  // a hook of the caller threw
    }
    threads_.clear();  // joins
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static Error Interrupted() { return Error(ErrorCode::kInterrupted, "interrupted"); }

  bool IsStopRequested() const { return hooks_.stop_requested && hooks_.stop_requested(); }

  void Start() {
    const unsigned wanted = static_cast<unsigned>(current_.size());
    for (unsigned worker = 0; worker < wanted; ++worker) {
      {
        const std::lock_guard lock(mutex_);
        ++n_running_;
      }
      try {
        threads_.emplace_back([this, worker] { WorkLoop(worker); });
      } catch (const std::exception&) {  // no thread or no memory for one: go on with fewer
        const std::lock_guard lock(mutex_);
        --n_running_;
        break;
      }
    }
    if (threads_.empty()) {
      throw Error(ErrorCode::kResources, "cannot start a thread: Resource temporarily unavailable");
    }
  }

  void WorkLoop(unsigned worker) {
    while (TakeItem(worker)) {
      std::exception_ptr failure;
      try {
        work_(current_[worker], worker);
      } catch (...) {
        failure = std::current_exception();
      }
      FinishItem(worker, failure);
    }
    const std::lock_guard lock(mutex_);
    if (--n_running_ == 0) all_done_.notify_one();
  }

  bool TakeItem(unsigned worker) {
    const std::lock_guard lock(mutex_);
    if (failure_ || next_ == n_items_) return false;
    current_[worker] = next_++;
    return true;
  }

  void FinishItem(unsigned worker, const std::exception_ptr& failure) {
    bool tell = false;
    {
      const std::lock_guard lock(mutex_);
      if (failure && !stopped_ && current_[worker] < failed_item_) {
        failed_item_ = current_[worker];
        failure_ = failure;
      }
      current_[worker] = kNoItem;
      // Items above the failed one may wait for its bytes: they are released (on_failure) only when
      // all below it are done, so that being released never looks like the first failure.
      const bool settled =
          std::ranges::none_of(current_, [this](std::size_t item) { return item < failed_item_; });
      if (failure_ && settled) tell = !std::exchange(told_, true);
    }
    if (tell && hooks_.on_failure) hooks_.on_failure();
  }

  void Watch() {
    while (!WaitForEnd()) {
      if (hooks_.tick) hooks_.tick();
      if (IsStopRequested()) Stop(std::make_exception_ptr(Interrupted()));
    }
  }

  bool WaitForEnd() {
    std::unique_lock lock(mutex_);
    return all_done_.wait_for(lock, kTick, [this] { return n_running_ == 0; });
  }

  void Stop(const std::exception_ptr& reason) {
    bool tell = false;
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
      if (!failure_) failure_ = reason;
      tell = !std::exchange(told_, true);
    }
    if (tell && hooks_.on_failure) hooks_.on_failure();
  }

  const std::size_t n_items_;
  const Work& work_;
  const ParallelHooks& hooks_;

  std::mutex mutex_;  // guards everything down to failure_
  std::condition_variable all_done_;
  std::size_t next_ = 0;
  std::vector<std::size_t> current_;  // what each worker does
  unsigned n_running_ = 0;            // workers
  bool stopped_ = false;              // from outside; later failures are only its echo
  bool told_ = false;
  std::size_t failed_item_ = kNoItem;
  std::exception_ptr failure_;

  std::vector<std::jthread> threads_;
};

}  // namespace

void ParallelChunks(unsigned n_threads, std::size_t n_items,
                    const std::function<void(std::size_t item, unsigned worker)>& work,
                    const ParallelHooks& hooks) {
  if (n_items == 0) return;
  const std::size_t n_workers = std::min<std::size_t>(std::max(n_threads, 1U), n_items);
  Pool(static_cast<unsigned>(n_workers), n_items, work, hooks).Run();
}

unsigned AvailableThreads() noexcept {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof(mask), &mask) == 0) {
    return std::max(1U, static_cast<unsigned>(CPU_COUNT(&mask)));
  }
  return std::max(1U, std::thread::hardware_concurrency());  // more processors than cpu_set_t holds
}

}  // namespace phiq
