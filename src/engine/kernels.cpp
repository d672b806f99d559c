// Which instruction sets there are, and which of them this processor has.
#include "engine/kernels.h"

#include <array>

namespace phiq::engine {

#if defined(__x86_64__)
namespace x86_64 {
extern const Kernels kKernels;
}
namespace x86_64_v3 {
extern const Kernels kKernels;
}
namespace x86_64_v4 {
extern const Kernels kKernels;
}

std::span<const Kernels* const> RunnableKernels() noexcept {
  static constexpr std::array<const Kernels*, 3> kAll = {&x86_64::kKernels, &x86_64_v3::kKernels,
                                                         &x86_64_v4::kKernels};
  static const std::size_t n_runnable = [] {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) return 3;
    return __builtin_cpu_supports("x86-64-v3") ? 2 : 1;
  }();
  return std::span(kAll).first(n_runnable);
}
#else
namespace baseline {
extern const Kernels kKernels;
}

std::span<const Kernels* const> RunnableKernels() noexcept {
  static constexpr std::array<const Kernels*, 1> kAll = {&baseline::kKernels};
  return kAll;
}
#endif

const Kernels& BestKernels() noexcept { return *RunnableKernels().back(); }

}  // namespace phiq::engine
