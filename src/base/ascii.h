// Case and classes of ASCII characters, whatever the locale; bytes beyond ASCII are no letters.
#pragma once

#include <algorithm>
#include <string_view>

namespace phiq {

constexpr char LowerAscii(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

constexpr bool IsAsciiDigit(char c) noexcept { return c >= '0' && c <= '9'; }

constexpr bool IsAsciiLetter(char c) noexcept {
  return LowerAscii(c) >= 'a' && LowerAscii(c) <= 'z';
}

constexpr bool IsAsciiAlphanumeric(char c) noexcept { return IsAsciiLetter(c) || IsAsciiDigit(c); }

constexpr bool EqualsIgnoringCase(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return LowerAscii(x) == LowerAscii(y); });
}

}  // namespace phiq
