// What a tensor may be called, in a header and in an index.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "base/limits.h"
#include "phiq/error.h"

namespace phiq {

// Throws   kBadData: empty, too long, or with a NUL byte. Anything else is a name.
inline void CheckTensorName(std::string_view name, std::string_view path) {
  const auto fail = [&](std::string message) {
    return Error(ErrorCode::kBadData, std::move(message)).In(path);
  };
  if (name.empty()) throw fail("empty tensor name");
  if (name.size() > limits::kNameBytes) {
    throw fail(fmt::format("tensor name of {} bytes, at most {} are allowed", name.size(),
                           limits::kNameBytes))
        .Tensor(name);
  }
  if (name.find('\0') != std::string_view::npos) {
    throw fail("tensor name with a NUL byte").Tensor(name);
  }
}

}  // namespace phiq
