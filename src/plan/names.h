// Tables whose entries have a name that users type.
#pragma once

#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/ascii.h"

namespace phiq {

// The entry of that name, in any case; nullptr: none.
template <typename Table>
auto FindByName(const Table& table, std::string_view name) noexcept -> decltype(std::data(table)) {
  for (const auto& entry : table) {
    if (EqualsIgnoringCase(entry.name, name)) return &entry;
  }
  return nullptr;
}

template <typename Table>
std::vector<std::string> NamesOf(const Table& table) {
  std::vector<std::string> names;
  for (const auto& entry : table) names.emplace_back(entry.name);
  return names;
}

}  // namespace phiq
