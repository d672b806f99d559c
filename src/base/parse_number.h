// Whole numbers in a text that is one number and nothing else.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace phiq {

// Decimal. nullopt: empty, anything but digits (and a minus sign where Number has one), too large.
template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) noexcept {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number);
  if (problem != std::errc() || stop != end) return std::nullopt;
  return number;
}

}  // namespace phiq
