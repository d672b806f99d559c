// The one list of models: a further one is a line here and a file of its own.
#include <array>

#include "model/architecture.h"

namespace phiq {

std::span<const Architecture* const> Architectures() noexcept {
  static constexpr std::array<const Architecture*, 2> kAll = {&kPhi3, &kPhiMoe};
  return kAll;
}

}  // namespace phiq
