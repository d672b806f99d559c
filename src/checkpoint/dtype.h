// safetensors' element types by name.
#pragma once

#include <optional>
#include <string_view>

#include "phiq/checkpoint.h"

namespace phiq {

std::optional<DType> DTypeFromName(std::string_view name) noexcept;  // exact, case included

}  // namespace phiq
