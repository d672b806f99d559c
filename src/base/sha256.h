// SHA-256, for naming chat templates and patterns in messages.
#pragma once

#include <string>
#include <string_view>

namespace phiq {

std::string Sha256Hex(std::string_view bytes);  // 64 lower-case hex digits

}  // namespace phiq
