// Memory for the way out. When memory runs out, exceptions unwind through destructors, and some of
// libraries allocate a little (nlohmann's JSON does to destroy a tree): a second std::bad_alloc
// there would end the program without a word. So what is allocated while an exception is on its way
// may come from a reserve. Everything else still throws.
#include "memory.h"

#include <execinfo.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <functional>
#include <new>

namespace phiq::cli {

void PrepareForOutOfMemory() noexcept {
#ifdef __GLIBC__
  void* frame = nullptr;
  ::backtrace(&frame, 1);
#endif
}

}  // namespace phiq::cli

#ifndef __SANITIZE_ADDRESS__  // which has its own

namespace {

constexpr std::size_t kReserveBytes = 1U << 20;
alignas(std::max_align_t) std::byte reserve[kReserveBytes];
std::atomic<std::size_t> n_used = 0;

void* TakeFromReserve(std::size_t size) noexcept {
  constexpr std::size_t kAlignment = alignof(std::max_align_t);
  if (size > kReserveBytes) return nullptr;
  const std::size_t n = (size + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t at = n_used.fetch_add(n);
  return at <= kReserveBytes - n ? reserve + at : nullptr;
}

bool IsOfReserve(const void* p) noexcept {
  const std::less<const void*> is_before;
  return !is_before(p, reserve) && is_before(p, reserve + kReserveBytes);
}

}  // namespace

void* operator new(std::size_t size) {
  if (void* const p = std::malloc(size == 0 ? 1 : size)) return p;
  if (std::uncaught_exceptions() > 0) {
    if (void* const p = TakeFromReserve(size)) return p;
  }
  throw std::bad_alloc();
}

void operator delete(void* p) noexcept {
  if (!IsOfReserve(p)) std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

#endif
