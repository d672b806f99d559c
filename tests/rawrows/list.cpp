// The list of the program with one line more. The test links it in place of formats/list.cpp.
#include <vector>

#include "formats/format.h"
#include "formats/gguf/format.h"
#include "rawrows/format.h"

namespace phiq {

std::span<const Format* const> Formats() noexcept {
  static constexpr const Format* kFormats[] = {&gguf::kFormat, &rawrows::kFormat};
  return kFormats;
}

std::span<const Profile> ListedProfiles() { return {}; }

}  // namespace phiq
